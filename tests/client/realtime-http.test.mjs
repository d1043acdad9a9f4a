// Broadcasts over HTTP: who may, what is wrong with one that is refused, and how it reaches whom.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { sql, start, subscribed, token, until } from './support.mjs'
import { wire } from './wire.mjs'

let stack
const DROP = `
  drop policy if exists rt_http_read on realtime.messages;
  drop policy if exists rt_http_write on realtime.messages;`
before(async () => {
  stack = await start()
  await sql(
    stack,
    `${DROP}
     create policy rt_http_read on realtime.messages for select to authenticated using (realtime.topic() like 'http-%');
     create policy rt_http_write on realtime.messages for insert to authenticated
       with check (realtime.topic() = 'http-' || (select auth.uid()::text));`,
  )
})
after(async () => {
  await sql(stack, DROP)
  await stack.stop()
})

const post = async (path, body, headers = {}) => {
  const answer = await fetch(`${stack.url}/realtime/v1/api/broadcast${path}`, {
    method: 'POST',
    headers: { apikey: stack.anonKey, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  })
  const text = await answer.text()
  return [answer.status, text && JSON.parse(text)]
}
const batch = (...messages) => post('', { messages })
const message = { topic: 't', event: 'e', payload: {} }
const faults = (...messages) => [422, { errors: { messages } }]

describe('a batch', () => {
  test('that is no list of messages is refused', async () => {
    assert.deepEqual(await post('', {}), faults("can't be blank"))
    assert.deepEqual(await post('', { messages: 'all' }), faults('is invalid'))
    assert.deepEqual(await post('', '{"messages": ['), [400, { errors: { detail: 'Bad Request' } }])
  })

  test('names the faults of each message', async () => {
    assert.deepEqual(
      await batch(message, { event: '', payload: null }, { ...message, topic: 5, payload: 'x', private: 'perhaps' }),
      faults(
        {},
        { topic: ["can't be blank"], event: ["can't be blank"], payload: ["can't be blank"] },
        { topic: ['is invalid'], payload: ['is invalid'], private: ['is invalid'] },
      ),
    )
    const big = { text: 'x'.repeat(3_000_000) }
    assert.deepEqual(await batch({ ...message, payload: big }), faults({ payload: ['Payload size exceeds tenant limit'] }))
  })

  test('is of at most a thousand messages', async () => {
    assert.deepEqual(await batch(...Array(1000).fill(message)), [202, ''])
    const refusal = { message: 'Too many messages to broadcast, please reduce the batch size' }
    assert.deepEqual(await batch(...Array(1001).fill(message)), [429, refusal])
  })
})

describe('one message', () => {
  test('is JSON of any form, or bytes', async () => {
    const topic = `one-${randomUUID()}`
    const [text, binary] = [await wire(stack, { vsn: '1.0.0' }), await wire(stack)]
    for (const each of [text, binary]) await each.join(`realtime:${topic}`)
    for (const [event, body] of [['object', '{"a": [1]}'], ['list', '[1, "é"]'], ['number', '5']]) {
      assert.deepEqual(await post(`/${topic}/events/${event}`, body), [202, ''])
      const said = await text.next((f) => f.event === 'broadcast' && f.payload.event === event)
      assert.deepEqual(said.payload, { event, payload: JSON.parse(body), type: 'broadcast' })
    }
    const bytes = Uint8Array.from([0, 255, 7])
    assert.deepEqual(await post(`/${topic}/events/bytes`, bytes, { 'content-type': 'application/octet-stream' }), [202, ''])
    await until(() => binary.frames.filter(Buffer.isBuffer).length === 4, 'four frames')
    const [object, , , last] = binary.frames.filter(Buffer.isBuffer)
    const full = `realtime:${topic}`
    assert.deepEqual([...object.subarray(0, 5)], [4, full.length, 6, 0, 1])
    assert.equal(object.subarray(5).toString(), `${full}object{"a": [1]}`)
    assert.deepEqual([...last.subarray(0, 5), ...last.subarray(-3)], [4, full.length, 5, 0, 0, 0, 255, 7])
    assert.ok(!text.frames.some((f) => f.payload?.event === 'bytes'), 'bytes cannot be said in a text protocol')
    text.end()
    binary.end()
  })

  test('that is refused is told why', async () => {
    const path = '/t/events/e'
    assert.deepEqual(await post(path, '{"a":'), [400, { errors: { detail: 'Bad Request' } }])
    assert.deepEqual(await post(path, { text: 'x'.repeat(3_000_000) }), [
      422,
      { errors: { payload: ['Payload size exceeds tenant limit'] } },
    ])
    const [status, body] = await post(path, 'x', { 'content-type': 'text/plain' })
    assert.deepEqual([status, Object.keys(body)], [415, ['error']])
    assert.match(body.error, /^Unsupported Media Type/)
    assert.deepEqual(await post(`${path}?persist=true`, {}), [422, { errors: { persist: ['can only be used on private channels'] } }])
    assert.deepEqual(await post(`${path}?private=true`, {}), [403, { message: 'Unauthorized' }])
  })
})

test('who has no token that holds is nobody', async () => {
  const nobody = [401, { message: 'Unauthorized' }]
  for (const path of ['', '/t/events/e']) {
    assert.deepEqual(await post(path, {}, { apikey: '' }), nobody)
    assert.deepEqual(await post(path, {}, { apikey: 'nonsense' }), nobody)
    const over = token(stack, { role: 'anon', exp: Math.floor(Date.now() / 1000) - 10 })
    assert.deepEqual(await post(path, {}, { authorization: `Bearer ${over}` }), nobody)
  }
})

test('a user sends as himself, though his client names the key beside his token', async () => {
  const id = randomUUID()
  const own = token(stack, { role: 'authenticated', sub: id })
  const made = createClient(stack.url, stack.anonKey, { accessToken: async () => own, realtime: { transport: ws } })
  stack.clients.push(made)
  await made.realtime.setAuth()
  const heard = []
  const topic = `http-${id}`
  const listening = made.channel(topic, { config: { private: true } }).on('broadcast', { event: '*' }, (m) => heard.push(m.event))
  await subscribed(listening)
  assert.equal((await listening.httpSend('sent', { a: 1 })).success, true)
  await until(() => heard.includes('sent'), 'the message')
  const query = `?apikey=${stack.anonKey}&private=true`
  assert.deepEqual(await post(`/${topic}/events/named${query}`, {}, { authorization: `Bearer ${own}` }), [202, ''])
  await until(() => heard.includes('named'), 'the message')
  assert.deepEqual(await post(`/http-another/events/e${query}`, {}, { authorization: `Bearer ${own}` }), [
    403,
    { message: 'Unauthorized' },
  ])
})

test('a page of any origin may send', async () => {
  const answer = await fetch(`${stack.url}/realtime/v1/api/broadcast`, {
    method: 'OPTIONS',
    headers: { origin: 'https://shop.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'apikey' },
  })
  assert.deepEqual([answer.status, answer.headers.get('access-control-allow-origin')], [200, '*'])
})

test('what is no route is told as the gateway of a project tells it', async () => {
  const answer = await fetch(`${stack.url}/functions/v1/hello`)
  assert.deepEqual([answer.status, await answer.json()], [404, { message: 'no Route matched with those values' }])
})
