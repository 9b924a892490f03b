import { execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A device made of mosquitto_pub and mosquitto_sub alone: an unmodified device. */
export function toolDevice(mqttUrl: string, token: string) {
  const { hostname, port } = new URL(mqttUrl)
  const connection = ['-h', hostname, '-p', port, '-u', token, '-P', '']
  let listening: ReturnType<typeof spawn> | undefined
  return {
    /** Publishes a message; rejects if the broker refuses the connection. */
    say: (topic: string, message: object, ...more: string[]) =>
      run('mosquitto_pub', [...connection, '-q', '1', '-t', topic, '-m', JSON.stringify(message), ...more]),
    /** Subscribes; the returned function gives all messages so far with their topics. */
    listen(topic: string): () => { topic: string; text: string }[] {
      const options = ['-i', `session-of-${token}`, '-c', '-q', '1', '-t', topic, '-F', '%t %p']
      const child = spawn('mosquitto_sub', [...connection, ...options])
      listening = child
      let output = ''
      child.stdout.on('data', (chunk) => {
        output += chunk
      })
      return () =>
        output
          .split('\n')
          .slice(0, -1)
          .map((line) => ({ topic: line.split(' ', 1)[0]!, text: line.slice(line.indexOf(' ') + 1) }))
    },
    end() {
      listening?.kill('SIGKILL')
    },
  }
}
