// Erasure: asked for by the service or a lead, or following the deletion of an account. Files go with the rest.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { conversation, emptyDesk, stored, visitor } from './portal.mjs'
import { client, must, sql, start, until } from './support.mjs'

/** The worker looks for files every few seconds. */
const GONE = 60_000

let stack
let service
before(async () => {
  stack = await start()
  service = client(stack, stack.serviceKey)
})
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const note = () => new File(['what I tried'], 'note.txt', { type: 'text/plain' })

/** A chat in which both wrote and a file was sent; resolves to its parties and the file's address. */
async function chat() {
  const made = await conversation(stack)
  const { customer, support, session } = made
  const url = await customer.portal.uploadFile(session.id, note())
  await customer.portal.sendMessage({ session_id: session.id, message: url, sender_type: 'customer' })
  await support.portal.sendMessage({ session_id: session.id, message: 'my answer', sender_type: 'agent' })
  return { ...made, url }
}

async function assertErased(session, url) {
  const row = await stored(stack, session.id)
  assert.equal(row.customer_id, null)
  assert.equal(row.customer_name, 'Erased')
  assert.equal(row.status, 'ended')
  const messages = must(await service.from('chat_messages').select('message, file_url').eq('session_id', session.id))
  assert.deepEqual([...new Set(messages.map((each) => each.message))], ['[erased]'])
  assert.ok(messages.every((each) => each.file_url === null))
  await until(async () => (await fetch(url)).status !== 200, 'the end of the file', GONE)
  await until(
    async () => (await sql(stack, 'select from chat.file_removals where name like $1', [`${session.id}/%`])).length === 0,
    'the end of the removal',
    GONE,
  )
}

test('the service erases a customer: texts, names and files go, the numbers stay', async () => {
  const { customer, session, url } = await chat()
  const other = await chat()
  const before = await stored(stack, session.id)

  const done = must(await service.rpc('chat_erase_customer', { customer_id: customer.id, reason: 'asked for' }))
  assert.equal(done.sessions, 1)
  assert.equal(done.files, 1)
  await assertErased(session, url)
  const after = await stored(stack, session.id)
  assert.equal(after.agent_id, before.agent_id)
  assert.deepEqual(after.agent_joined_at, before.agent_joined_at)
  assert.equal(after.wait_time_seconds, before.wait_time_seconds)

  const again = must(await service.rpc('chat_erase_customer', { customer_id: customer.id }))
  assert.deepEqual(again, { sessions: 0, messages: 0, files: 0 })
  const trail = must(await service.from('chat_erasures').select('kind, sessions, files').eq('reason', 'asked for'))
  assert.deepEqual(trail, [{ kind: 'customer', sessions: 1, files: 1 }])

  assert.deepEqual(must(await customer.client.from('chat_sessions').select('id')), [], 'it is his no more')
  await assert.rejects(
    customer.portal.sendMessage({ session_id: session.id, message: 'still there?', sender_type: 'customer' }),
  )
  assert.equal((await fetch(other.url)).status, 200, 'others keep theirs')
  await customer.portal.startChatSession()
})

test('agents and customers erase nothing, and hear so', async () => {
  const { customer, support, session } = await chat()
  for (const { client } of [customer, support]) {
    for (const [name, args] of [
      ['chat_erase_customer', { customer_id: customer.id }],
      ['chat_erase_session', { session_id: session.id }],
      ['chat_hold', { session_id: session.id, reason: 'mine' }],
    ]) {
      const { error } = await client.rpc(name, args)
      assert.equal(error?.code, '42501', name)
    }
  }
})

test('a lead holds a session, which then is not erased', async () => {
  const { session, url } = await chat()
  const lead = await visitor(stack, { role: 'support_manager' })
  must(await lead.client.rpc('chat_hold', { session_id: session.id, reason: 'a dispute' }))
  const { error } = await lead.client.rpc('chat_erase_session', { session_id: session.id })
  assert.match(error.message, /on hold/)
  must(await lead.client.rpc('chat_release', { session_id: session.id }))
  assert.equal(must(await lead.client.rpc('chat_erase_session', { session_id: session.id })).sessions, 1)
  await assertErased(session, url)
})

test('an account that is deleted takes its chats along', async () => {
  const { customer, session, url } = await chat()
  must(await service.auth.admin.deleteUser(customer.id))
  await until(async () => (await stored(stack, session.id)).erased_at, 'the erasure', GONE)
  const row = await stored(stack, session.id)
  assert.ok(['ended', 'abandoned'].includes(row.status))
  const messages = must(await service.from('chat_messages').select('message').eq('session_id', session.id))
  assert.deepEqual([...new Set(messages.map((each) => each.message))], ['[erased]'])
  await until(async () => (await fetch(url)).status !== 200, 'the end of the file', GONE)
})
