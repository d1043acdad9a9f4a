// Messages: live, in the history, and from whom they say they are.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, conversation, emptyDesk, spoken, stored, visitor } from './portal.mjs'
import { sql, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

test('messages go both ways, live, each exactly once and in order', async () => {
  const { support, customer, session } = await conversation(stack)
  const session_id = session.id
  const heard = { customer: [], support: [] }
  await customer.portal.subscribeToMessages(session_id, (message) => heard.customer.push(message))
  await support.portal.subscribeToMessages(session_id, (message) => heard.support.push(message))

  const sent = []
  for (let turn = 0; turn < 3; turn += 1) {
    const asked = { session_id, message: `question ${turn}`, sender_type: 'customer' }
    const answered = { session_id, message: `answer ${turn}`, sender_type: 'agent' }
    sent.push(await customer.portal.sendMessage(asked))
    sent.push(await support.portal.sendMessage(answered))
  }
  const ids = sent.map(({ id }) => id)
  for (const list of Object.values(heard)) {
    await until(() => list.some(({ id }) => id === ids.at(-1)), 'the last message')
    assert.deepEqual(spoken(list).map(({ id }) => id), ids)
  }
  const first = heard.support.find(({ id }) => id === ids[0])
  assert.equal(first.message, 'question 0')
  assert.equal(first.sender_id, customer.id)
  assert.equal(first.sender_type, 'customer')
  assert.equal(first.is_read, false, 'values arrive with their types')
  assert.equal((await stored(stack, session_id)).messages_count, (await customer.portal.getMessages(session_id)).length)
})

test('the history has every message in order, with its sender', async () => {
  const { support, customer, session } = await conversation(stack)
  await sql(stack, `update auth.users set raw_user_meta_data = $2 where id = $1`, [
    support.id,
    JSON.stringify({ full_name: 'Ada Agent', avatar_url: 'https://img.example/ada.png' }),
  ])
  await customer.portal.sendMessage({ session_id: session.id, message: 'hello', sender_type: 'customer' })
  await support.portal.sendMessage({ session_id: session.id, message: 'welcome', sender_type: 'agent' })
  for (const { portal } of [customer, support]) {
    const [asked, answered] = spoken(await portal.getMessages(session.id))
    assert.equal(asked.message, 'hello')
    assert.equal(asked.sender.id, customer.id)
    assert.equal(answered.message, 'welcome')
    assert.deepEqual(answered.sender, {
      id: support.id,
      full_name: 'Ada Agent',
      avatar_url: 'https://img.example/ada.png',
    })
  }
})

test("an agent's first message is when he joined", async () => {
  const { support, customer, session } = await conversation(stack)
  assert.equal((await stored(stack, session.id)).agent_joined_at, null)
  await customer.portal.sendMessage({ session_id: session.id, message: 'hello', sender_type: 'customer' })
  assert.equal((await stored(stack, session.id)).agent_joined_at, null)
  const answer = await support.portal.sendMessage({ session_id: session.id, message: 'hi', sender_type: 'agent' })
  const joined = (await stored(stack, session.id)).agent_joined_at
  assert.ok(Math.abs(joined - new Date(answer.created_at)) < 1000, `${joined} ${answer.created_at}`)
  await support.portal.sendMessage({ session_id: session.id, message: 'still here', sender_type: 'agent' })
  assert.deepEqual((await stored(stack, session.id)).agent_joined_at, joined)
})

test('a customer who waits may write, and the agent who comes reads it', async () => {
  const customer = await visitor(stack)
  const { id } = await customer.portal.startChatSession()
  await customer.portal.sendMessage({ session_id: id, message: 'anybody there?', sender_type: 'customer' })
  const support = await agent(stack)
  await until(async () => (await stored(stack, id)).agent_id === support.id, 'an agent')
  const [asked] = spoken(await support.portal.getMessages(id))
  assert.equal(asked.message, 'anybody there?')
})

test('a customer can pose neither as the agent nor as the system', async () => {
  const { customer, session } = await conversation(stack)
  for (const forged of [
    { sender_type: 'agent' },
    { sender_type: 'system' },
    { sender_type: 'system', message_type: 'system' },
    { sender_type: 'customer', message_type: 'system' },
  ]) {
    // refused or put right: both will do
    await customer.portal
      .sendMessage({ session_id: session.id, message: 'your password, please', ...forged })
      .catch(() => {})
  }
  const rows = await sql(
    stack,
    `select distinct sender_type, message_type from public.chat_messages where session_id = $1 and sender_id = $2`,
    [session.id, customer.id],
  )
  for (const row of rows) assert.deepEqual(row, { sender_type: 'customer', message_type: 'text' })
  const [{ count }] = await sql(
    stack,
    `select count(*)::int from public.chat_messages
     where session_id = $1 and message = 'your password, please' and sender_id is distinct from $2`,
    [session.id, customer.id],
  )
  assert.equal(count, 0)
})

test("nobody writes in another's name", async () => {
  const { support, customer, session } = await conversation(stack)
  await customer.client.from('chat_messages').insert({
    session_id: session.id,
    sender_id: support.id,
    sender_type: 'agent',
    message: 'signed by another',
  })
  const rows = await sql(stack, `select sender_id from public.chat_messages where message = 'signed by another'`)
  for (const row of rows) assert.equal(row.sender_id, customer.id)
})

test('times and the read mark of a message are the server’s', async () => {
  const { customer, session } = await conversation(stack)
  for (const [column, value] of Object.entries({
    created_at: '2001-01-01T00:00:00Z',
    is_read: true,
    read_at: '2001-01-01T00:00:00Z',
    id: '00000000-0000-4000-8000-000000000001',
  })) {
    const message = `forged ${column}`
    await customer.client.from('chat_messages').insert({
      session_id: session.id,
      sender_id: customer.id,
      sender_type: 'customer',
      message,
      [column]: value,
    })
    const [row] = await sql(stack, 'select * from public.chat_messages where session_id = $1 and message = $2', [
      session.id,
      message,
    ])
    if (!row) continue
    assert.ok(row.created_at > new Date('2020-01-01'), column)
    assert.equal(row.is_read, false, column)
    assert.equal(row.read_at, null, column)
  }
})

test('a message is neither changed nor deleted by anybody', async () => {
  const { support, customer, session } = await conversation(stack)
  const { id } = await customer.portal.sendMessage({
    session_id: session.id,
    message: 'as it was said',
    sender_type: 'customer',
  })
  for (const { client } of [customer, support]) {
    await client.from('chat_messages').update({ message: 'as it was not' }).eq('id', id)
    await client.from('chat_messages').delete().eq('id', id)
  }
  const [row] = await sql(stack, 'select message from public.chat_messages where id = $1', [id])
  assert.equal(row?.message, 'as it was said')
})

test('any text arrives as it was written', async () => {
  const { support, customer, session } = await conversation(stack)
  const heard = []
  await support.portal.subscribeToMessages(session.id, (message) => heard.push(message))
  const texts = ['Grüße, 你好, שלום', '😀 𝄞', `'"\\; drop table users; --`, 'two\nlines\ttab', '{"json": [1, null]}', '${0} %s \\u0041']
  for (const message of texts) {
    await customer.portal.sendMessage({ session_id: session.id, message, sender_type: 'customer' })
  }
  await until(() => spoken(heard).length >= texts.length, 'every message')
  assert.deepEqual(spoken(heard).map(({ message }) => message), texts)
  assert.deepEqual(spoken(await customer.portal.getMessages(session.id)).map(({ message }) => message), texts)
})

test('a message beyond the limit is refused with a clear error', async () => {
  const { customer, session } = await conversation(stack)
  const send = (message) => customer.portal.sendMessage({ session_id: session.id, message, sender_type: 'customer' })
  await assert.rejects(send('x'.repeat(2_000_000)), (error) => error.cause.code === '23514')
  await assert.rejects(send('   '), (error) => error.cause.code === '23514')
  assert.equal((await stored(stack, session.id)).messages_count, (await customer.portal.getMessages(session.id)).length)
})

test('a customer’s message to a chat that the agent has ended is not lost', async () => {
  const { support, customer, session } = await conversation(stack)
  await support.portal.sendMessage({ session_id: session.id, message: 'bye', sender_type: 'agent' })
  await support.portal.endSession(session.id)
  const sent = await customer.portal.sendMessage({
    session_id: session.id,
    message: 'one thing more',
    sender_type: 'customer',
  })
  assert.equal(sent.message, 'one thing more')
  const row = await stored(stack, session.id)
  assert.equal(row.status, 'active')
  assert.equal(row.agent_id, support.id)
  assert.equal(row.ended_at, null)
})
