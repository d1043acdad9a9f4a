// What each side has read, through supabase-js.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { conversation, emptyDesk, stored, visitor } from './portal.mjs'
import { changes, must, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const ask = ({ portal }, session_id, message) => portal.sendMessage({ session_id, message, sender_type: 'customer' })

test('mark_read marks up to a message, then all, and the other side hears of each message once', async () => {
  const { support, customer, session } = await conversation(stack)
  const session_id = session.id
  const heard = await changes(customer.client, { event: 'UPDATE', table: 'chat_messages' })
  const sent = []
  for (const words of ['one', 'two', 'three']) sent.push(await ask(customer, session_id, words))
  assert.equal((await stored(stack, session_id)).unread_by_agent, 3)

  const mark = async (args) => must(await support.client.rpc('mark_read', { session_id, ...args }))
  assert.equal(await mark({ up_to: sent[1].id }), 2)
  assert.equal((await stored(stack, session_id)).unread_by_agent, 1)
  assert.equal(await mark(), 1)
  assert.equal(await mark(), 0)
  assert.equal((await stored(stack, session_id)).unread_by_agent, 0)

  await until(() => heard.list.some((change) => change.new.id === sent[2].id), 'the last mark')
  assert.deepEqual(heard.list.map((change) => change.new.id).sort(), sent.map(({ id }) => id).sort())
  assert.ok(heard.list.every((change) => change.new.is_read && change.new.read_at))
})

test('is_read can be set as well, and an answer marks what came before', async () => {
  const { support, customer, session } = await conversation(stack)
  const session_id = session.id
  await ask(customer, session_id, 'hello')
  const set = () =>
    support.client.from('chat_messages').update({ is_read: true }).eq('session_id', session_id).eq('is_read', false).select()
  assert.equal(must(await set()).length, 1)
  assert.equal(must(await set()).length, 0)
  assert.equal((await stored(stack, session_id)).unread_by_agent, 0)

  await ask(customer, session_id, 'are you there?')
  await support.portal.sendMessage({ session_id, message: 'yes', sender_type: 'agent' })
  const { unread_by_agent, unread_by_customer } = await stored(stack, session_id)
  assert.deepEqual({ unread_by_agent, unread_by_customer }, { unread_by_agent: 0, unread_by_customer: 1 })
  assert.equal(must(await customer.client.rpc('mark_read', { session_id })), 1)
})

test('a lead reads for nobody, a stranger not at all', async () => {
  const { customer, session } = await conversation(stack)
  await ask(customer, session.id, 'hello')
  const lead = await visitor(stack, { role: 'support_manager' })
  assert.equal(must(await lead.client.rpc('mark_read', { session_id: session.id })), 0)
  const stranger = await visitor(stack)
  const { error, status } = await stranger.client.rpc('mark_read', { session_id: session.id })
  assert.equal(status, 403)
  assert.equal(error.code, '42501')
  assert.equal(error.message, `session ${session.id} is not yours to read`)
  assert.equal((await stored(stack, session.id)).unread_by_agent, 1)
})
