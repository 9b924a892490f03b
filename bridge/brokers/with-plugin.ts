import type { Broker } from './broker.ts'
import type { PluginSocket } from './plugin-socket.ts'

/** A joined broker whose plugin does what MQTT has no words for. */
export const withPlugin = (broker: Broker, plugin: PluginSocket): Broker => ({
  ...broker,
  get counts() {
    const ofPlugin = Object.entries(plugin.counts).map(([name, count]) => [`plugin_${name}`, count])
    return { ...broker.counts, ...Object.fromEntries(ofPlugin) }
  },
  health() {
    const health = broker.health()
    // Without the plugin's questions nobody new gets in.
    if (health.state !== 'ok' || plugin.isConnected()) return health
    return { state: 'away', reason: 'its plugin is not connected' }
  },
  dropSessions: plugin.dropSessions,
  async close() {
    await broker.close()
    await plugin.close()
  },
})
