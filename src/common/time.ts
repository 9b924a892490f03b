/** Milliseconds since 1970 → ISO 8601 UTC with `Z`, as every time in the API. */
export function iso(ms: number): string
export function iso(ms: number | null): string | null
export function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
