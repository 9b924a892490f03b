import { text } from '../http/openapi.ts'

const MAX_FILENAME_LENGTH = 255
/** Control and formatting characters, and characters with a meaning in paths or headers. */
const UNSAFE = /[\p{Cc}\p{Cf}/\\:*?"<>|;]/gu

/** A file name from a client; characters that could mislead a browser or a file system become `_`. */
export const filename = text(MAX_FILENAME_LENGTH).transform(
  (name) => name.toWellFormed().replace(UNSAFE, '_').trim() || null,
)

/** A download's Content-Disposition (RFC 6266): browsers save the file and never show it. */
export function contentDisposition(filename: string | null): string {
  if (filename === null) return 'attachment'
  const encoded = encodeURIComponent(filename).replace(
    /['()*!]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename*=UTF-8''${encoded}`
}
