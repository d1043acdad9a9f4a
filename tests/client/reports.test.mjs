// Reports and the desk as it is now, as a dashboard asks for them.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { agent, conversation, emptyDesk, visitor } from './portal.mjs'
import { client, must, start, user } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

const HOUR = 3_600_000
const lately = (more = {}) => ({
  from: new Date(Date.now() - HOUR).toISOString(),
  to: new Date(Date.now() + HOUR).toISOString(),
  ...more,
})

test('a lead asks for a report by agent and day', async () => {
  const { support, session } = await conversation(stack)
  await support.portal.sendMessage({ session_id: session.id, message: 'hello', sender_type: 'agent' })
  const lead = await user(stack, { role: 'support_manager' })
  const rows = must(
    await lead.client.rpc('chat_report', lately({ by: ['agent', 'day'], time_zone: 'Europe/Berlin', agent: support.id })),
  )
  const row = rows.find(({ agent_id, offered }) => agent_id === support.id && offered > 0)
  assert.equal(row.offered, 1)
  assert.equal(row.answered, 1)
  assert.equal(row.legs, 1)
  assert.match(row.day, /^\d{4}-\d\d-\d\d$/)
  assert.equal(row.csat, null)
})

test('an agent has his own report, a customer none', async () => {
  const { support } = await conversation(stack)
  const [mine] = must(await support.client.rpc('chat_report', lately()))
  assert.equal(mine.offered, 1)
  const colleague = await agent(stack)
  const refused = await colleague.client.rpc('chat_report', lately({ agent: support.id }))
  assert.equal(refused.error.code, '42501')
  const customer = await visitor(stack)
  assert.equal((await customer.client.rpc('chat_report', lately())).error.code, '42501')
  assert.equal((await customer.client.rpc('chat_live')).error.code, '42501')
  assert.equal((await client(stack).rpc('chat_report', lately())).error.code, '42501')
})

test('a wrong question says what is wrong', async () => {
  const service = client(stack, stack.serviceKey)
  const ask = async (more) => (await service.rpc('chat_report', lately(more))).error
  assert.match((await ask({ by: ['moon'] })).message, /cannot group by 'moon'/)
  assert.match((await ask({ time_zone: 'Mars/Phobos' })).message, /unknown time zone/)
  assert.equal((await ask({ from: new Date(Date.now() + 2 * HOUR).toISOString() })).code, '22023')
})

test('a dashboard sees who waits', async () => {
  const support = await agent(stack, { status: 'offline' })
  const customer = await visitor(stack)
  await customer.portal.startChatSession()
  const rows = must(await support.client.rpc('chat_live'))
  assert.equal(rows.reduce((sum, { waiting }) => sum + waiting, 0), 1)
})
