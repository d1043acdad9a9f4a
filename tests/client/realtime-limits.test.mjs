// What a socket, a channel and a payload may at most, and how each limit is told.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { start, token, until } from './support.mjs'
import { wire } from './wire.mjs'

describe('by default', () => {
  let stack
  before(async () => {
    stack = await start()
  })
  after(() => stack.stop())

  test('a socket has a hundred channels and no more', async () => {
    const mine = await wire(stack)
    const refs = Array.from({ length: 101 }, (_, number) => mine.send(`realtime:limit-${number}`, 'phx_join', { config: {} }))
    assert.equal((await mine.reply(refs[99]))[0], 'ok')
    assert.deepEqual(await mine.reply(refs[100]), ['error', { reason: 'ChannelRateLimitReached: Too many channels' }])
    assert.equal((await mine.ask('realtime:limit-0', 'phx_leave'))[0], 'ok')
    assert.equal((await mine.join('realtime:limit-100'))[0], 'ok', 'one that ended makes room')
    mine.end()
  })

  test('a socket that joins without end is closed', async () => {
    const mine = await wire(stack)
    let joined = 0
    const refused = () => mine.frames.find((frame) => frame.event === 'phx_reply' && frame.payload.status === 'error')
    while (!refused()) {
      assert.ok(joined < 5000, 'nobody stops it')
      const refs = Array.from({ length: 100 }, () => mine.send('realtime:again', 'phx_join', { config: {} }))
      joined += 100
      await until(() => refused() || mine.frames.some((frame) => frame.ref === refs[99] && frame.event === 'phx_reply'), 'replies')
    }
    assert.equal(refused().payload.response.reason, 'ClientJoinRateLimitReached: Too many joins per second')
    assert.ok(joined > 1000, 'a burst of ten seconds is allowed')
    assert.deepEqual(await mine.closed(), { code: 1013, reason: 'too many joins per second' })
  })

  test('a channel that sends without end is closed, not the connection', async () => {
    const mine = await wire(stack)
    await mine.join('realtime:loud')
    let sent = 0
    const said = () => mine.frames.find((frame) => frame.event === 'system' && frame.payload.status === 'error')
    while (!said()) {
      assert.ok(sent < 50_000, 'nobody stops it')
      for (let more = 0; more < 1000; more++) mine.send('realtime:loud', 'broadcast', { event: 'e', payload: {} })
      sent += 1000
      await mine.ask('phoenix', 'heartbeat')
    }
    assert.equal(said().payload.message, 'Too many messages per second')
    await mine.next((frame) => frame.event === 'phx_close')
    assert.ok(sent > 5000, 'a burst of ten seconds is allowed')
    assert.equal((await mine.ask('phoenix', 'heartbeat'))[0], 'ok')
    mine.end()
  })

  test('a channel that changes its token without end is closed', async () => {
    const mine = await wire(stack)
    const joined = mine.send('realtime:tokens', 'phx_join', { config: {} })
    await mine.reply(joined)
    const said = () => mine.frames.some((frame) => frame.event === 'system')
    for (let number = 0; !said(); number++) {
      assert.ok(number < 5000, 'nobody stops it')
      mine.send('realtime:tokens', 'access_token', { access_token: token(stack, { role: 'anon', number }) }, joined)
      if (number % 100 === 0) await mine.ask('phoenix', 'heartbeat')
    }
    assert.deepEqual(await mine.system('system'), ['error', 'Too many joins per second'])
    await mine.next((frame) => frame.event === 'phx_close')
    mine.end()
  })

  test('a channel asks for a hundred changes and no more', async () => {
    const mine = await wire(stack)
    const changes = Array.from({ length: 101 }, () => ({ event: '*', schema: 'public' }))
    assert.deepEqual(await mine.join('realtime:many', { postgres_changes: changes }), [
      'error',
      { reason: 'ChannelRateLimitReached: Too many postgres_changes, at most 100 are allowed on a channel' },
    ])
    mine.end()
  })

  test('presence is an object, and broadcasts have a size', async () => {
    const mine = await wire(stack)
    const topic = `realtime:shape-${randomUUID()}`
    await mine.join(topic, { broadcast: { ack: true } })
    assert.deepEqual(await mine.ask(topic, 'presence', { event: 'track', payload: 'here' }), [
      'error',
      { reason: 'Presence track payload must be a map' },
    ])
    assert.deepEqual(await mine.ask(topic, 'presence', { event: 'wave' }), ['error', {}])
    assert.deepEqual(await mine.ask(topic, 'presence', {}), ['ok', {}])
    assert.deepEqual(await mine.ask(topic, 'presence', { event: 'track' }), ['ok', {}])
    const big = { event: 'e', payload: { text: 'x'.repeat(3_000_001) } }
    assert.deepEqual(await mine.ask(topic, 'broadcast', big), ['error', { error: 'payload_size_exceeded' }])
    assert.deepEqual(await mine.ask(topic, 'broadcast', { event: 'e', payload: {} }), ['ok', {}])
    const silent = `realtime:silent-${randomUUID()}`
    await mine.join(silent)
    const ref = mine.send(silent, 'broadcast', big)
    await mine.ask('phoenix', 'heartbeat')
    assert.ok(!mine.frames.some((frame) => frame.ref === ref), 'who wants no answer gets none')
    mine.end()
  })

  test('a presence that is too large ends its channel', async () => {
    const mine = await wire(stack)
    const topic = `realtime:large-${randomUUID()}`
    await mine.join(topic)
    mine.send(topic, 'presence', { event: 'track', payload: { text: 'x'.repeat(3_000_001) } })
    assert.deepEqual(await mine.system('system'), ['error', 'Track message size exceeded'])
    await mine.next((frame) => frame.event === 'phx_close')
    mine.end()
  })

  test('a frame of five million bytes is read, a larger one ends the socket', async () => {
    const mine = await wire(stack)
    const frame = (size) => {
      const text = JSON.stringify([null, '9', 'phoenix', 'heartbeat', { pad: '' }])
      return text.replace('""', `"${'x'.repeat(size - text.length)}"`)
    }
    mine.socket.send(frame(5_000_000))
    assert.equal((await mine.reply('9'))[0], 'ok')
    mine.socket.send(frame(5_000_001))
    await mine.closed()
  })

  test('a channel that tracks is told of the others, though it did not ask when it joined', async () => {
    const [one, two] = [await wire(stack), await wire(stack)]
    const topic = `realtime:present-${randomUUID()}`
    await one.join(topic, { presence: { enabled: true, key: 'one' } })
    await one.ask(topic, 'presence', { event: 'track', payload: { mood: 'calm' } })
    await two.join(topic, { presence: { enabled: false, key: 'two' } })
    assert.deepEqual(await two.ask(topic, 'presence', { event: 'track', payload: {} }), ['ok', {}])
    const state = await two.next((frame) => frame.event === 'presence_state', 'who is there')
    assert.equal(state.payload.one.metas[0].mood, 'calm')
    one.end()
    two.end()
  })
})

describe('set by the operator', () => {
  let stack
  before(async () => {
    stack = await start({
      args: ['--realtime-sockets', '4', '--realtime-sockets-per-address', '3', '--realtime-channels', '2',
        '--realtime-presence-calls', '5', '--realtime-presence-per-second', '2', '--realtime-payload-limit', '1000',
        '--realtime-idle-timeout', '2'],
      env: { SWITCHBOARD_REALTIME_POSTS_PER_SECOND: '1' },
    })
  })
  after(() => stack.stop())

  test('a socket that says nothing is closed, one that does is not', async () => {
    const [silent, living] = [await wire(stack), await wire(stack)]
    let beats = 0
    while (!silent.isClosed()) {
      assert.ok(beats++ < 300, 'nobody closes it')
      await living.ask('phoenix', 'heartbeat')
      await until(() => true, 'a moment')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.ok(beats > 10)
    assert.deepEqual(await silent.closed(), { code: 1001, reason: 'nothing was heard in time' })
    assert.equal((await living.ask('phoenix', 'heartbeat'))[0], 'ok')
    living.end()
    await living.closed()
  })

  test('there are as many sockets as may be, of all and of one address', async () => {
    const open = []
    const refused = async (headers) => {
      const made = await wire(stack, { headers }).catch((refusal) => refusal)
      if (made.status) return [made.status, JSON.parse(made.body)]
      open.push(made)
    }
    const full = [429, { error: 'Too many connected users' }]
    const from = (address) => ({ 'x-forwarded-for': address })
    for (let number = 0; number < 3; number++) assert.equal(await refused(from('192.0.2.1')), undefined)
    assert.deepEqual(await refused(from('192.0.2.1')), full)
    assert.equal(await refused(from('192.0.2.2')), undefined)
    assert.deepEqual(await refused(from('192.0.2.3')), full)
    open.pop().end()
    await until(async () => (await refused(from('192.0.2.3'))) === undefined, 'a place')
    open.forEach((each) => each.end())
    await Promise.all(open.map((each) => each.closed()))
  })

  test('channels and payloads are as many and as large as they may be', async () => {
    const mine = await wire(stack)
    await mine.join('realtime:one')
    await mine.join('realtime:two', { broadcast: { ack: true } })
    assert.deepEqual(await mine.join('realtime:three'), ['error', { reason: 'ChannelRateLimitReached: Too many channels' }])
    const large = { event: 'e', payload: { text: 'x'.repeat(1000) } }
    assert.deepEqual(await mine.ask('realtime:two', 'broadcast', large), ['error', { error: 'payload_size_exceeded' }])
    mine.end()
    await mine.closed()
  })

  test('presence is said as often as it may be', async () => {
    const mine = await wire(stack)
    const told = async (topic, count) => {
      await mine.join(topic)
      for (let number = 0; number < count; number++) mine.send(topic, 'presence', { event: 'track', payload: { number } })
      const said = await mine.next((f) => f.topic === topic && f.event === 'system', 'what is said of it')
      await mine.next((f) => f.topic === topic && f.event === 'phx_close')
      const answers = mine.frames.filter((f) => f.topic === topic && f.event === 'phx_reply').length - 1
      return [answers, said.payload.message]
    }
    assert.deepEqual(await told('realtime:often', 6), [5, 'Client presence rate limit exceeded'])
    // Each channel has its five, all of them together have twenty and two a second.
    const messages = []
    for (let number = 0; number < 9; number++) messages.push((await told(`realtime:often-${number}`, 6))[1])
    assert.ok(messages.includes('Too many presence messages per second'), String(messages))
    mine.end()
    await mine.closed()
  })

  test('broadcasts over HTTP are as many as they may be', async () => {
    const post = (count, address) =>
      fetch(`${stack.url}/realtime/v1/api/broadcast`, {
        method: 'POST',
        headers: { apikey: stack.anonKey, 'content-type': 'application/json', 'x-forwarded-for': address },
        body: JSON.stringify({ messages: Array(count).fill({ topic: 't', event: 'e', payload: {} }) }),
      })
    assert.equal((await post(10, '192.0.2.1')).status, 202)
    const refused = await post(5, '192.0.2.1')
    assert.deepEqual([refused.status, await refused.json()], [429, { message: 'You have exceeded your rate limit' }])
    assert.equal((await post(10, '192.0.2.2')).status, 202)
  })
})
