import { $$ } from './dom.client.js'

const RECONNECT_MS = 2000
const MAX_RECONNECT_MS = 60_000

/** Figures of a task as its object tells them: `data-figure` elements follow, parts that ask for it are fetched anew. */
export function follow(element, reconnectMs = RECONNECT_MS) {
  const url = new URL(element.dataset.live, location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  const socket = new WebSocket(url)
  let waitMs = reconnectMs
  socket.onmessage = ({ data }) => {
    waitMs = RECONNECT_MS
    const figures = JSON.parse(data)
    for (const place of $$('[data-figure]')) {
      const value = place.dataset.figure.split('.').reduce((part, name) => part?.[name], figures)
      if (value !== undefined) place.textContent = String(value)
    }
    for (const part of $$('[data-follows]')) htmx.trigger(part, 'refresh')
  }
  socket.onclose = () => setTimeout(() => follow(element, Math.min(2 * waitMs, MAX_RECONNECT_MS)), waitMs)
}
