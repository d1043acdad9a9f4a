// What nobody may do: strangers, visitors without a name, and participants beyond their part.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, anonymous, conversation, ears, emptyDesk, stored, visitor } from './portal.mjs'
import { client, must, sql, start } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(async () => {
  await sql(stack, 'drop table if exists public.beacons')
  await stack.stop()
})
beforeEach(() => emptyDesk(stack))

const rows = (answer) => answer.data ?? []

/** A chat with a message, a rating to be protected and somebody typing; and the two who have no part in it. */
async function scene() {
  const { support, customer, session } = await conversation(stack)
  const message = await customer.portal.sendMessage({
    session_id: session.id,
    message: 'between us',
    sender_type: 'customer',
  })
  must(await customer.portal.setTyping(session.id, true))
  return { support, customer, session, message, outsiders: [await visitor(stack), anonymous(stack)] }
}

test("outsiders read nothing of others' chats", async () => {
  const { session, outsiders } = await scene()
  for (const { client, portal } of outsiders) {
    assert.equal(await portal.getSession(session.id), null)
    for (const table of ['chat_sessions', 'chat_messages', 'chat_typing_indicators']) {
      assert.deepEqual(rows(await client.from(table).select()), [], table)
      const counted = await client.from(table).select('*', { count: 'exact', head: true })
      assert.ok(!counted.count, `${table} counts ${counted.count}`)
    }
    assert.deepEqual(
      rows(await client.from('chat_sessions').select('id, chat_messages(message)').eq('id', session.id)),
      [],
    )
  }
})

test("outsiders write nothing into others' chats", async () => {
  const { customer, session, message, outsiders } = await scene()
  const before = await stored(stack, session.id)
  const typing = () => sql(stack, 'select user_id, is_typing from public.chat_typing_indicators')
  const typed = await typing()
  for (const { id, client, portal } of outsiders) {
    for (const sender_type of ['customer', 'agent', 'system']) {
      await assert.rejects(portal.sendMessage({ session_id: session.id, message: 'intruding', sender_type }))
      for (const sender_id of [customer.id, null]) {
        const answer = await client
          .from('chat_messages')
          .insert({ session_id: session.id, sender_id, sender_type, message: 'intruding' })
        assert.ok(answer.error, `${sender_type} ${sender_id}`)
      }
    }
    assert.ok((await portal.setTyping(session.id, true)).error)
    await client.from('chat_typing_indicators').insert({ session_id: session.id, user_id: customer.id })
    await client.from('chat_typing_indicators').delete().eq('session_id', session.id)
    await client.from('chat_typing_indicators').update({ user_id: id }).eq('session_id', session.id)
    await portal.endSession(session.id, 1, 'sabotage').catch(() => {})
    await client.from('chat_sessions').update({ customer_id: id }).eq('id', session.id)
    await client.from('chat_sessions').delete().eq('id', session.id)
    await client.from('chat_messages').update({ message: 'rewritten' }).eq('id', message.id)
    await client.from('chat_messages').delete().eq('id', message.id)
  }
  assert.deepEqual(await stored(stack, session.id), before)
  assert.deepEqual(await typing(), typed)
  const [{ intruding, kept }] = await sql(
    stack,
    `select count(*) filter (where message = 'intruding')::int as intruding,
            count(*) filter (where message = 'between us')::int as kept
     from public.chat_messages where session_id = $1`,
    [session.id],
  )
  assert.deepEqual({ intruding, kept }, { intruding: 0, kept: 1 })
})

test('a session moves neither to other people nor to other numbers, counters and times', async () => {
  const { support, customer, session } = await scene()
  const stranger = await visitor(stack)
  const forged = {
    id: '00000000-0000-4000-8000-000000000001',
    session_number: 'CHAT-VIP',
    customer_id: stranger.id,
    customer_name: 'The CEO',
    customer_email: 'ceo@example.com',
    queue_position: 1,
    started_at: '2001-01-01T00:00:00Z',
    agent_joined_at: '2001-01-01T00:00:00Z',
    ended_at: '2001-01-01T00:00:00Z',
    created_at: '2001-01-01T00:00:00Z',
    wait_time_seconds: -1,
    chat_duration_seconds: -1,
    messages_count: 999,
  }
  const of = {
    customer: { ...forged, agent_id: stranger.id },
    support: { ...forged, rating: 5, feedback_comment: 'splendid' },
  }
  for (const [who, changes] of Object.entries(of)) {
    const { client } = { customer, support }[who]
    for (const [column, value] of Object.entries(changes)) {
      const before = await stored(stack, session.id)
      // refused or without effect: both will do
      await client.from('chat_sessions').update({ [column]: value }).eq('id', session.id)
      const now = await stored(stack, session.id)
      assert.deepEqual(now?.[column], before[column], `${who} ${column}`)
    }
  }
  await customer.client.from('chat_sessions').delete().eq('id', session.id)
  await support.client.from('chat_sessions').delete().eq('id', session.id)
  assert.ok(await stored(stack, session.id))
})

test('typing shows nobody but oneself', async () => {
  const { support, customer, session } = await scene()
  await customer.client
    .from('chat_typing_indicators')
    .upsert({ session_id: session.id, user_id: support.id, is_typing: true })
  await customer.client.from('chat_typing_indicators').update({ user_id: support.id }).eq('session_id', session.id)
  const typing = await sql(stack, 'select user_id from public.chat_typing_indicators where session_id = $1 and is_typing', [
    session.id,
  ])
  assert.deepEqual(typing, [{ user_id: customer.id }])
})

test('outsiders hear nothing, however widely they listen', async () => {
  const { support, customer, session } = await conversation(stack)
  const stranger = await visitor(stack)
  const listener = await ears(stack, stranger.client)
  const nameless = [
    await ears(stack, anonymous(stack).client),
    await ears(stack, client(stack, stack.publishableKey)),
  ]
  const friend = await ears(stack, support.client)
  await customer.portal.sendMessage({ session_id: session.id, message: 'between us', sender_type: 'customer' })
  must(await customer.portal.setTyping(session.id, true))
  must(await customer.portal.setTyping(session.id, false))
  await support.portal.sendMessage({ session_id: session.id, message: 'of course', sender_type: 'agent' })
  await customer.portal.endSession(session.id, 5)
  // rows that go for good are events too
  await sql(stack, 'delete from public.chat_typing_indicators where session_id = $1', [session.id])
  assert.deepEqual(await listener.silence(), [])
  // who may not read a table at all is told, as on Supabase, that he is not told
  for (const { silence } of nameless) {
    for (const { new: row, old, errors } of await silence()) {
      assert.deepEqual({ row, old, errors }, { row: {}, old: {}, errors: ['Error 401: Unauthorized'] })
    }
  }
  const heard = await friend.silence()
  assert.ok(heard.some(({ table, new: row }) => table === 'chat_messages' && row.message === 'between us'))
  assert.ok(heard.some(({ table }) => table === 'chat_typing_indicators'))
})

test("another chat's customer hears nothing through the filter of a session he knows", async () => {
  const { customer, session } = await conversation(stack)
  const other = await conversation(stack)
  const heard = []
  const typed = []
  await other.customer.portal.subscribeToMessages(session.id, (message) => heard.push(message))
  await other.customer.portal.subscribeToTyping(session.id, (...event) => typed.push(event))
  const ear = await ears(stack, other.customer.client)
  await customer.portal.sendMessage({ session_id: session.id, message: 'between us', sender_type: 'customer' })
  must(await customer.portal.setTyping(session.id, true))
  must(await customer.portal.setTyping(session.id, false))
  await ear.silence()
  assert.deepEqual({ heard, typed }, { heard: [], typed: [] })
})

test('an agent without a part in a chat neither writes in it nor takes it', async () => {
  const { customer, session } = await scene()
  const other = await conversation(stack)
  const colleague = other.support
  await assert.rejects(
    colleague.portal.sendMessage({ session_id: session.id, message: 'let me', sender_type: 'agent' }),
  )
  assert.ok((await colleague.portal.setTyping(session.id, true)).error)
  await colleague.portal.assign(session.id, colleague.id)
  const row = await stored(stack, session.id)
  assert.equal(row.agent_id, session.agent_id)
  assert.equal(row.customer_id, customer.id)
})

test('what is ours and not the portal’s is not served', async () => {
  const { customer } = await scene()
  const tables = await sql(
    stack,
    `select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm') and n.nspname not in ('public', 'pg_catalog', 'information_schema')
       and n.nspname !~ '^pg_'`,
  )
  assert.ok(tables.some(({ schema, name }) => schema === 'auth' && name === 'users'))
  for (const { schema, name } of tables) {
    const { data, error } = await customer.client.schema(schema).from(name).select().limit(1)
    assert.ok(error && !data, `${schema}.${name}`)
  }
})

test('a user can be deleted, and his chat remains without him', async () => {
  const { support, customer, session } = await scene()
  await customer.portal.endSession(session.id, 4)
  const service = client(stack, stack.serviceKey)
  for (const { id } of [customer, support]) must(await service.auth.admin.deleteUser(id))
  const row = await stored(stack, session.id)
  assert.equal(row.customer_id, null)
  assert.equal(row.agent_id, null)
  assert.equal(row.rating, 4)
  const [message] = await sql(
    stack,
    `select sender_id, sender_type from public.chat_messages where session_id = $1 and message = 'between us'`,
    [session.id],
  )
  assert.deepEqual(message, { sender_id: null, sender_type: 'customer' })

  // and the desk goes on
  await agent(stack)
  const next = await visitor(stack)
  assert.equal((await next.portal.startChatSession()).status, 'active')
})
