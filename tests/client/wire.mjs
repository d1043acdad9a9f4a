// Realtime without a client library: frames as they are, in both protocol versions.

import ws from 'ws'

import { until } from './support.mjs'

/**
 * A websocket. Frames of either version come as `{joinRef, ref, topic, event, payload}`, binary ones as they are.
 *
 * @param {{vsn?: string, key?: string, query?: string, headers?: Record<string, string>}} [options]
 */
export async function wire(stack, { vsn = '2.0.0', key = stack.anonKey, query = `apikey=${key}&vsn=${vsn}`, headers } = {}) {
  const socket = new ws(`${stack.url.replace('http', 'ws')}/realtime/v1/websocket?${query}`, { headers })
  const frames = []
  let closed
  socket.on('message', (data, binary) => frames.push(binary ? data : read(JSON.parse(data))))
  socket.on('close', (code, reason) => (closed = { code, reason: String(reason) }))
  await new Promise((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('error', reject)
    socket.on('unexpected-response', async (_, response) => {
      const chunks = []
      for await (const chunk of response) chunks.push(chunk)
      const body = Buffer.concat(chunks).toString()
      reject(Object.assign(new Error(`refused with ${response.statusCode}: ${body}`), { status: response.statusCode, body }))
    })
  })
  let refs = 0
  return {
    socket,
    frames,
    end: () => socket.close(),
    /** How the server closed it: code and reason. */
    closed: (within) => until(() => closed, 'the end of the socket', within),
    isClosed: () => closed !== undefined,
    /** Sends without waiting; gives the message's number. */
    send(topic, event, payload = {}, joinRef = null) {
      const ref = String(++refs)
      joinRef = event === 'phx_join' ? ref : joinRef
      socket.send(
        JSON.stringify(vsn === '1.0.0' ? { topic, event, payload, ref, join_ref: joinRef } : [joinRef, ref, topic, event, payload]),
      )
      return ref
    },
    /** The status and response of the reply to a message of this number. */
    async reply(ref) {
      const { payload } = await this.next((frame) => frame.ref === ref && frame.event === 'phx_reply', `a reply to ${ref}`)
      return [payload.status, payload.response]
    },
    /** Sends, and waits for the reply. */
    ask(topic, event, payload, joinRef) {
      return this.reply(this.send(topic, event, payload, joinRef))
    },
    /** Joins; gives the reply's status and response. */
    join(topic, config = {}, more = {}) {
      return this.ask(topic, 'phx_join', { config, ...more })
    },
    next: (test, what = 'a frame') => until(() => frames.find(test), `${what} among ${JSON.stringify(frames)}`),
    /** The next `system` message of an extension. */
    async system(extension) {
      const { payload } = await this.next((f) => f.event === 'system' && f.payload.extension === extension, `system ${extension}`)
      return [payload.status, payload.message]
    },
  }
}

function read(frame) {
  if (!Array.isArray(frame)) return { ...frame, joinRef: undefined }
  const [joinRef, ref, topic, event, payload] = frame
  return { joinRef, ref, topic, event, payload }
}
