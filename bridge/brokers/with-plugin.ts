import type { Broker } from './broker.ts'
import type { PluginSocket } from './plugin-socket.ts'

/** A joined broker whose plugin authenticates devices, reports presence and ends sessions. */
export const withPlugin = (broker: Broker, plugin: PluginSocket): Broker => ({
  ...broker,
  get counts() {
    const ofPlugin = Object.entries(plugin.counts).map(([name, count]) => [`plugin_${name}`, count])
    return { ...broker.counts, ...Object.fromEntries(ofPlugin) }
  },
  health() {
    const health = broker.health()
    // Without its plugin connected, the broker refuses every new connection.
    if (health.state !== 'ok' || plugin.isConnected()) return health
    return { state: 'away', reason: 'its plugin is not connected' }
  },
  dropSessions: plugin.dropSessions,
  async close() {
    await broker.close()
    await plugin.close()
  },
})
