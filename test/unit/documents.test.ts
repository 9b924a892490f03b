import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, extname, join, matchesGlob, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

// Every README, and every comment that cites one, must lead somewhere.

const SOURCES = new Set(['.ts', '.tsx', '.js', '.c', '.h', '.toml', '.conf'])
const THIS_FILE = 'test/unit/documents.test.ts'
/** Design papers that are not part of the repository. */
const OUTSIDE = /\b(?:PROTOCOL|API|ARCHITECTURE)\.md\b/g
const CITATION = /(?<path>(?:[\w.-]+\/)*README\.md)(?:#(?<anchor>[\p{L}\p{N}_-]+))?/gu

/** The files of the repository, new ones included; undefined outside a git checkout. */
function listFiles(): string[] | undefined {
  try {
    const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
    const listed = execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return listed.split('\0').filter((file) => file !== '' && existsSync(file))
  } catch (cause) {
    const text = 'The documents cannot be checked here: git lists no files'
    if (process.env.CI) throw new Error(text, { cause })
    console.warn(`${text}. SKIPPED.`)
    return undefined
  }
}

const files = new Set(listFiles())
const folders = new Set<string>()
for (const file of files) {
  for (let folder = dirname(file); folder !== '.'; folder = dirname(folder)) folders.add(folder)
}
const isThere = (path: string) => files.has(path) || folders.has(path) || path === '.'
const readmes = [...files].filter((file) => basename(file) === 'README.md')
const texts = new Map([...files].filter(isText).map((file) => [file, readFileSync(file, 'utf8')]))

function isText(file: string): boolean {
  return file !== THIS_FILE && (basename(file) === 'README.md' || SOURCES.has(extname(file)))
}

/** Replaces what matches by blanks, so that line numbers stay as they are. */
const blank = (text: string, pattern: RegExp) =>
  text.replace(pattern, (found) => found.replace(/[^\n]/g, ' '))
const withoutFences = (text: string) => blank(text, /^ {0,3}(```|~~~)[^\n]*\n[\s\S]*?^ {0,3}\1[^\n]*$/gm)
const withoutCode = (text: string) => blank(withoutFences(text), /(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g)

/** The anchor that GitHub makes of a heading, without the number that a repeated heading gets. */
const slugOf = (heading: string) =>
  heading
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-')

/** All anchors of a document: a repeated heading gets `-1`, `-2` and so on. */
function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>()
  for (const [, heading] of withoutFences(text).matchAll(/^ {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$/gm)) {
    const slug = slugOf(heading!)
    let anchor = slug
    for (let repeat = 1; anchors.has(anchor); repeat++) anchor = `${slug}-${repeat}`
    anchors.add(anchor)
  }
  return anchors
}

interface Mention {
  /** File and line, as an editor opens them. */
  at: string
  match: RegExpMatchArray
}

/** Everything in a text that matches, with its place. */
const mentions = (file: string, text: string, pattern: RegExp): Mention[] =>
  [...text.matchAll(pattern)].map((match) => ({
    at: `${file}:${text.slice(0, match.index).split('\n').length}`,
    match,
  }))

const inReadmes = (prepare: (text: string) => string, pattern: RegExp) =>
  readmes.flatMap((file) =>
    mentions(file, prepare(texts.get(file)!), pattern).map((mention) => ({ ...mention, file })),
  )

/** Links and pictures of the READMEs, those to other hosts aside; paths start at the repository's root. */
const links = [
  ...inReadmes(withoutCode, /\]\(\s*<?([^)\s>]+)/g),
  ...inReadmes(withoutCode, /^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)/gm),
  ...inReadmes(withoutCode, /<(?:a|img)\b[^>]*?\b(?:href|src)="([^"]+)"/g),
].flatMap(({ at, match, file }) => {
  const target = decodeURI(match[1]!)
  if (/^(?:[a-z][a-z0-9+.-]*:|\/\/)/i.test(target)) return []
  const [path = '', anchor] = target.split('#', 2)
  const from = path.startsWith('/') ? '.' : dirname(file)
  const to = path === '' ? file : normalize(join(from, path)).replace(/\/$/, '')
  return [{ at, target, path: to, anchor }]
})

/** Paths in backticks that start with a folder of the repository, a glob or an anchor included. */
const codePaths = inReadmes(withoutFences, /(?<!`)`((?:src|test|bridge|migrations)\/[^\s`]*)`(?!`)/g)

/** The README that a path means: the path itself, or the one in that folder. */
const readmeAt = (path: string) => (path.endsWith('.md') ? path : join(path, 'README.md'))

const hasAnchor = (path: string, anchor: string | undefined) =>
  anchor === undefined || anchorsOf(texts.get(path) ?? '').has(anchor)

describe.skipIf(files.size === 0)('the documents', () => {
  it('every relative link and picture in a README leads to a file', () => {
    const faults = links.filter(({ path }) => !isThere(path))
    expect(faults.map(({ at, target }) => `${at}: ${target}`)).toEqual([])
  })

  it('every anchor in a README belongs to a heading', () => {
    const faults = links.filter(({ path, anchor }) => {
      const readme = readmeAt(path)
      return files.has(readme) && !hasAnchor(readme, anchor)
    })
    expect(faults.map(({ at, target }) => `${at}: ${target}`)).toEqual([])
  })

  it('every npm run in a README names a script', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object }
    const faults = inReadmes((text) => text, /\bnpm\s+run\s+([a-z][\w:-]*)/g).filter(
      ({ match }) => !Object.hasOwn(scripts, match[1]!),
    )
    expect(faults.map(({ at, match }) => `${at}: ${match[0]}`)).toEqual([])
  })

  it('every path in backticks in a README exists', () => {
    const faults = codePaths.filter(({ match }) => {
      const [name = '', anchor] = match[1]!.split('#', 2)
      const path = name.replace(/:\d+$/, '').replace(/\/$/, '')
      if (/[*{?]/.test(path)) return ![...files, ...folders].some((file) => matchesGlob(file, path))
      return !isThere(path) || (path.endsWith('.md') && !hasAnchor(path, anchor))
    })
    expect(faults.map(({ at, match }) => `${at}: ${match[1]}`)).toEqual([])
  })

  it('every README that a source cites exists and has the heading', () => {
    const faults = [...texts]
      .filter(([file]) => basename(file) !== 'README.md')
      .flatMap(([file, text]) => mentions(file, text, CITATION))
      .filter(({ match }) => {
        const { path, anchor } = match.groups as { path: string; anchor?: string }
        return !files.has(path) || !hasAnchor(path, anchor)
      })
    expect(faults.map(({ at, match }) => `${at}: ${match[0]}`)).toEqual([])
  })

  it('no README or source cites a document outside the repository', () => {
    const faults = [...texts].flatMap(([file, text]) => mentions(file, text, OUTSIDE))
    expect(faults.map(({ at, match }) => `${at}: ${match[0]}`)).toEqual([])
  })
})

it('headings get the anchors that GitHub makes', () => {
  const text = [
    '# What `gates` count',
    '## Order and outages',
    '## Links, and what they can do',
    '## `npm start`, [linked](x.md) & snake_case – dash',
    '```sh',
    '# no heading',
    '```',
    '### Twice ###',
    '### Twice',
    '### Größe 中文',
  ].join('\n')
  expect([...anchorsOf(text)]).toEqual([
    'what-gates-count',
    'order-and-outages',
    'links-and-what-they-can-do',
    'npm-start-linked--snake_case--dash',
    'twice',
    'twice-1',
    'größe-中文',
  ])
})
