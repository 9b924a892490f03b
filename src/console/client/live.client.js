import { $$ } from './dom.client.js'

const RECONNECT_MS = 2000
const MAX_RECONNECT_MS = 60_000

/** Follows a task over its WebSocket: a message sets the `data-figure` elements and refreshes `data-follows` parts. */
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
