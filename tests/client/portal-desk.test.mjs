// The desk: what agents and their leads see, take, hand over and mark as read.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, conversation, emptyDesk, spoken, stored, visitor } from './portal.mjs'
import { changes, must, sql, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const open = async ({ client }) => {
  const rows = must(
    await client
      .from('chat_sessions')
      .select('id, status')
      .in('status', ['waiting', 'active'])
      .order('started_at', { ascending: true }),
  )
  return rows.map(({ id, status }) => `${id} ${status}`)
}

test('an agent lists the queue and his own chats, not those of colleagues', async () => {
  const { support, session } = await conversation(stack)
  must(await support.setStatus('offline'))
  const colleague = await agent(stack, { status: 'offline' })
  const customer = await visitor(stack)
  const waiting = await customer.portal.startChatSession()
  assert.deepEqual(await open(support), [`${session.id} active`, `${waiting.id} waiting`])
  assert.deepEqual(await open(colleague), [`${waiting.id} waiting`])
  assert.deepEqual(await open(customer), [`${waiting.id} waiting`])
})

test('an agent hears at once that a chat is his', async () => {
  const support = await agent(stack)
  const desk = await changes(support.client, { table: 'chat_sessions', filter: `agent_id=eq.${support.id}` })
  const customer = await visitor(stack)
  const { id } = await customer.portal.startChatSession()
  const change = await desk.next(({ new: row }) => row.id === id && row.status === 'active', 'the new chat')
  assert.equal(change.new.customer_id, customer.id)
})

test('an agent takes a waiting chat, reads what was written, and answers', async () => {
  const support = await agent(stack, { status: 'offline' })
  const customer = await visitor(stack)
  const { id } = await customer.portal.startChatSession()
  await customer.portal.sendMessage({ session_id: id, message: 'anybody?', sender_type: 'customer' })
  must(await support.portal.assign(id, support.id))
  const row = await stored(stack, id)
  assert.equal(row.status, 'active')
  assert.equal(row.agent_id, support.id)
  const [asked] = spoken(await support.portal.getMessages(id))
  assert.equal(asked.message, 'anybody?')
  await support.portal.sendMessage({ session_id: id, message: 'me', sender_type: 'agent' })
})

test('two agents who take one chat get it once', async () => {
  const pair = [await agent(stack, { status: 'offline' }), await agent(stack, { status: 'offline' })]
  const customer = await visitor(stack)
  const { id } = await customer.portal.startChatSession()
  await Promise.all(pair.map(({ id: own, portal }) => portal.assign(id, own)))
  const seen = await Promise.all(pair.map(open))
  assert.equal(seen.flat().length, 1)
})

test('an agent hands a chat over, and it goes on with the other', async () => {
  const { support, customer, session } = await conversation(stack)
  const colleague = await agent(stack)
  const heard = []
  await customer.portal.subscribeToMessages(session.id, (message) => heard.push(message))
  must(await support.client.rpc('transfer_chat', { session_id: session.id, to_agent: colleague.id }))
  const row = await stored(stack, session.id)
  assert.equal(row.agent_id, colleague.id)
  assert.equal(row.status, 'active')
  await colleague.portal.sendMessage({ session_id: session.id, message: 'my turn', sender_type: 'agent' })
  await until(() => heard.some(({ sender_id }) => sender_id === colleague.id), "the colleague's message")
  await assert.rejects(
    support.portal.sendMessage({ session_id: session.id, message: 'still me', sender_type: 'agent' }),
  )
})

test('a manager sees every chat and what is said in it, a stranger with no role sees none', async () => {
  const { customer, session } = await conversation(stack)
  await customer.portal.sendMessage({ session_id: session.id, message: 'hello', sender_type: 'customer' })
  const manager = await visitor(stack, { role: 'support_manager' })
  assert.deepEqual(await open(manager), [`${session.id} active`])
  assert.deepEqual(spoken(await manager.portal.getMessages(session.id)).map(({ message }) => message), ['hello'])
  assert.deepEqual(await open(await visitor(stack)), [])
})

test('agents serve the tenant that their account names', async () => {
  const tenants = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const [{ id }] = await sql(stack, 'insert into public.tenants (name) values ($1) returning id', [name])
      return id
    }),
  )
  const [first, second] = tenants
  const theirs = await agent(stack, { appData: { tenant_id: first } })
  const others = await agent(stack, { appData: { tenant_id: second } })
  const customer = await visitor(stack, { appData: { tenant_id: second } })
  const session = await customer.portal.startChatSession()
  assert.equal(session.tenant_id, second)
  assert.equal(session.agent_id, others.id)
  const next = await visitor(stack, { appData: { tenant_id: first } })
  must(await theirs.setStatus('offline'))
  const waiting = await next.portal.startChatSession()
  assert.equal((await stored(stack, waiting.id)).status, 'waiting')
  assert.deepEqual(await open(theirs), [`${waiting.id} waiting`])
  assert.deepEqual(await open(others), [`${session.id} active`])
})

test('a message is marked as read by the other party, once, at the server’s time', async () => {
  const { support, customer, session } = await conversation(stack)
  const { id } = await customer.portal.sendMessage({
    session_id: session.id,
    message: 'have you read this?',
    sender_type: 'customer',
  })
  const mark = ({ client }) => client.from('chat_messages').update({ is_read: true }).eq('id', id)
  const read = async () => (await customer.portal.getMessages(session.id)).find((each) => each.id === id)
  await mark(customer)
  assert.equal((await read()).is_read, false, 'not by its author')
  must(await mark(support))
  const marked = await read()
  assert.equal(marked.is_read, true)
  assert.ok(new Date(marked.read_at) >= new Date(marked.created_at))
  must(await mark(support))
  assert.equal((await read()).read_at, marked.read_at)
})
