import { text } from '../http/openapi.ts'

const MAX_FILENAME_LENGTH = 255
/** Control and formatting characters, and what means something in a path or in a header. */
const UNSAFE = /[\p{Cc}\p{Cf}/\\:*?"<>|;]/gu

/** A file's name as clients give it; what could mislead a browser or a file system becomes `_`. */
export const filename = text(MAX_FILENAME_LENGTH).transform(
  (name) => name.toWellFormed().replace(UNSAFE, '_').trim() || null,
)

/** What a download says about its file: always saved, never shown (RFC 6266). */
export function contentDisposition(filename: string | null): string {
  if (filename === null) return 'attachment'
  const encoded = encodeURIComponent(filename).replace(
    /['()*!]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename*=UTF-8''${encoded}`
}
