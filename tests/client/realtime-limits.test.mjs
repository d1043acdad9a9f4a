// What a socket, a channel and a broadcast may at most, and how each limit is told.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import ws from 'ws'

import { start, until } from './support.mjs'

let stack
before(async () => {
  stack = await start()
})
after(() => stack.stop())

/** A websocket without a library: frames as they are. */
async function socket() {
  const made = new ws(`${stack.url.replace('http', 'ws')}/realtime/v1/websocket?apikey=${stack.anonKey}&vsn=2.0.0`)
  const frames = []
  let closed
  made.on('message', (data, binary) => frames.push(binary ? data : JSON.parse(data)))
  made.on('close', () => (closed = true))
  await new Promise((resolve, reject) => made.on('open', resolve).on('error', reject))
  let refs = 0
  return {
    frames,
    end: () => made.close(),
    closed: () => until(() => closed, 'the end of the socket'),
    /** Sends without waiting. */
    send(topic, event, payload = {}) {
      const ref = String(++refs)
      made.send(JSON.stringify([event === 'phx_join' ? ref : null, ref, topic, event, payload]))
      return ref
    },
    /** The status and response of the reply. */
    async ask(topic, event, payload) {
      return this.reply(this.send(topic, event, payload))
    },
    async reply(ref) {
      const frame = await until(() => frames.find((f) => f[1] === ref && f[3] === 'phx_reply'), `a reply to ${ref}`)
      return [frame[4].status, frame[4].response]
    },
  }
}

const broadcast = async (path, body, headers = {}) => {
  const answer = await fetch(`${stack.url}/realtime/v1/api/broadcast${path}`, {
    method: 'POST',
    headers: { apikey: stack.anonKey, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await answer.text()
  return [answer.status, text && JSON.parse(text)]
}

describe('a socket', () => {
  test('has a hundred channels and no more', async () => {
    const mine = await socket()
    const refs = Array.from({ length: 101 }, (_, number) => mine.send(`realtime:limit-${number}`, 'phx_join'))
    assert.equal((await mine.reply(refs[99]))[0], 'ok')
    const [status, { reason }] = await mine.reply(refs[100])
    assert.deepEqual([status, reason], ['error', 'ChannelRateLimitReached: Too many channels'])
    assert.equal((await mine.ask('realtime:limit-0', 'phx_leave'))[0], 'ok')
    assert.equal((await mine.ask('realtime:limit-100', 'phx_join'))[0], 'ok', 'one that ended makes room')
    mine.end()
  })

  test('that joins without end is closed', async () => {
    const mine = await socket()
    let joined = 0
    const refused = () => mine.frames.find((frame) => frame[3] === 'phx_reply' && frame[4].status === 'error')
    while (!refused()) {
      assert.ok(joined < 5000, 'nobody stops it')
      const refs = Array.from({ length: 100 }, () => mine.send('realtime:again', 'phx_join'))
      joined += 100
      await until(() => refused() || mine.frames.some((frame) => frame[1] === refs[99] && frame[3] === 'phx_reply'), 'replies')
    }
    assert.equal(refused()[4].response.reason, 'ClientJoinRateLimitReached: Too many joins per second')
    assert.ok(joined > 1000, 'a burst of ten seconds is allowed')
    await mine.closed()
  })

  test('that sends without end loses the channel, not the connection', async () => {
    const mine = await socket()
    await mine.ask('realtime:loud', 'phx_join')
    let sent = 0
    const said = () => mine.frames.find((frame) => frame[3] === 'system' && frame[4].status === 'error')
    while (!said()) {
      assert.ok(sent < 50_000, 'nobody stops it')
      for (let more = 0; more < 1000; more++) mine.send('realtime:loud', 'broadcast', { event: 'e', payload: {} })
      sent += 1000
      await mine.ask('phoenix', 'heartbeat')
    }
    assert.equal(said()[4].message, 'Too many messages per second')
    assert.ok(sent > 5000, 'a burst of ten seconds is allowed')
    assert.equal((await mine.ask('phoenix', 'heartbeat'))[0], 'ok')
    mine.end()
  })
})

describe('a channel', () => {
  test('takes presence that is an object, and broadcasts of a size', async () => {
    const mine = await socket()
    const topic = `realtime:shape-${randomUUID()}`
    await mine.ask(topic, 'phx_join', { config: { broadcast: { ack: true } } })
    assert.deepEqual(await mine.ask(topic, 'presence', { event: 'track', payload: 'here' }), [
      'error',
      { reason: 'Presence track payload must be a map' },
    ])
    assert.deepEqual(await mine.ask(topic, 'presence', { event: 'wave' }), ['error', {}])
    const big = { event: 'e', payload: { text: 'x'.repeat(3_000_001) } }
    assert.deepEqual(await mine.ask(topic, 'broadcast', big), ['error', { error: 'payload_size_exceeded' }])
    assert.deepEqual(await mine.ask(topic, 'broadcast', { event: 'e', payload: {} }), ['ok', {}])
    mine.end()
  })

  test('that tracks is told of the others, though it did not ask when it joined', async () => {
    const [one, two] = [await socket(), await socket()]
    const topic = `realtime:present-${randomUUID()}`
    await one.ask(topic, 'phx_join', { config: { presence: { enabled: true, key: 'one' } } })
    await one.ask(topic, 'presence', { event: 'track', payload: { mood: 'calm' } })
    await two.ask(topic, 'phx_join', { config: { presence: { enabled: false, key: 'two' } } })
    assert.deepEqual(await two.ask(topic, 'presence', { event: 'track', payload: {} }), ['ok', {}])
    const state = await until(() => two.frames.find((frame) => frame[3] === 'presence_state'), 'who is there')
    assert.equal(state[4].one.metas[0].mood, 'calm')
    one.end()
    two.end()
  })

  test('subscribes to no columns or filters of tables it does not name', async () => {
    const mine = await socket()
    const asked = async (change) => {
      const topic = `realtime:changes-${randomUUID()}`
      await mine.ask(topic, 'phx_join', { config: { postgres_changes: [{ event: '*', ...change }] } })
      const said = await until(
        () => mine.frames.find((frame) => frame[2] === topic && frame[3] === 'system'),
        `what is said of ${JSON.stringify(change)}`,
      )
      return [said[4].status, said[4].message]
    }
    const columns = await asked({ schema: 'public', table: '*', select: ['id'] })
    assert.equal(columns[0], 'error')
    assert.match(columns[1], /Column selection is not supported for wildcard subscriptions/)
    assert.match((await asked({ schema: 'public', table: '*', filter: 'id=eq.1' }))[1], /Filters are not supported for wildcard/)
    assert.match((await asked({ schema: 'public', table: 'chat_sessions', select: 'id' }))[1], /Error parsing `select` params/)
    mine.end()
  })
})

describe('a broadcast over HTTP', () => {
  test('names what is wrong with it', async () => {
    const message = { topic: 't', event: 'e', payload: {} }
    const of = (change) => broadcast('', { messages: [{ ...message, ...change }] })
    assert.deepEqual(await of({ topic: '' }), [422, { errors: { topic: ["can't be blank"] } }])
    assert.deepEqual(await of({ event: '' }), [422, { errors: { event: ["can't be blank"] } }])
    const big = { text: 'x'.repeat(3_000_000) }
    assert.deepEqual(await of({ payload: big }), [422, { errors: { payload: ['Payload size exceeds tenant limit'] } }])
    assert.deepEqual(await broadcast('/t/events/e', big), [422, { errors: { payload: ['Payload size exceeds tenant limit'] } }])
    assert.deepEqual(await broadcast('/t/events/e', '{"a":'), [422, { errors: { payload: ['is invalid'] } }])
    assert.equal((await broadcast('', { messages: Array(1000).fill(message) }))[0], 202)
    assert.deepEqual(await broadcast('', { messages: Array(1001).fill(message) }), [
      429,
      { message: 'Too many messages to broadcast, please reduce the batch size' },
    ])
  })
})

test('what is no route is told as the gateway of a project tells it', async () => {
  const answer = await fetch(`${stack.url}/functions/v1/hello`)
  assert.deepEqual([answer.status, await answer.json()], [404, { message: 'no Route matched with those values' }])
})
