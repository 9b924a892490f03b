/** Settings that let one device take all, for benches whose few devices stand for many. */
export const WITHOUT_SHARES = {
  DEVICE_MESSAGES_PER_MINUTE: '1000000000',
  DEVICE_MESSAGES_AT_ONCE: '1000000000',
  DEVICE_REQUESTS_PER_MINUTE: '1000000000',
  DEVICE_REQUESTS_AT_ONCE: '1000000000',
  DEVICE_SPOOL_PERCENT: '100',
}

/** The same for Mosquitto's plugin. */
export const PLUGIN_WITHOUT_SHARES = [
  'plugin_opt_device_messages_per_minute 1000000000',
  'plugin_opt_device_messages_at_once 1000000000',
  'plugin_opt_device_requests_per_minute 1000000000',
  'plugin_opt_device_requests_at_once 1000000000',
]
