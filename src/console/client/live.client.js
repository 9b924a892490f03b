import { $$ } from './dom.client.js'

const RECONNECT_MS = 3000

/** Figures of a task as its object tells them: `data-figure` elements follow, parts that ask for it are fetched anew. */
export function follow(element) {
  const url = new URL(element.dataset.live, location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  const socket = new WebSocket(url)
  socket.onmessage = ({ data }) => {
    const figures = JSON.parse(data)
    for (const place of $$('[data-figure]')) {
      const value = place.dataset.figure.split('.').reduce((part, name) => part?.[name], figures)
      if (value !== undefined) place.textContent = String(value)
    }
    for (const part of $$('[data-follows]')) htmx.trigger(part, 'refresh')
  }
  socket.onclose = () => setTimeout(() => follow(element), RECONNECT_MS)
}
