// Typing indicators: on, again, off, and forgotten.

import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { conversation, emptyDesk } from './portal.mjs'
import { must, sql, start, until } from './support.mjs'

let stack
before(async () => (stack = await start()))
after(() => stack?.stop())
beforeEach(() => emptyDesk(stack))

/** Who is seen typing, told as a widget keeps it: one event, one entry. */
async function watch(person, id) {
  const seen = []
  await person.portal.subscribeToTyping(id, (user, typing) => seen.push(`${user} ${typing}`))
  return seen
}

test('typing shows, goes on, and stops', async () => {
  const { support, customer, session } = await conversation(stack)
  const seen = await watch(support, session.id)
  must(await customer.portal.setTyping(session.id, true))
  await until(() => seen.length === 1, 'the customer to be seen typing')
  must(await customer.portal.setTyping(session.id, true))
  await until(() => seen.length === 2, 'a second upsert to be seen')
  must(await customer.portal.setTyping(session.id, false))
  await until(() => seen.length === 3, 'the end of typing')
  must(await customer.portal.setTyping(session.id, true))
  await until(() => seen.length === 4, 'the customer to be seen typing once more')
  assert.deepEqual(seen, [true, true, false, true].map((typing) => `${customer.id} ${typing}`))
})

test('both see each other type, and whose end it is', async () => {
  const { support, customer, session } = await conversation(stack)
  const seen = await watch(customer, session.id)
  must(await support.portal.setTyping(session.id, true))
  must(await customer.portal.setTyping(session.id, true))
  must(await customer.portal.setTyping(session.id, false))
  must(await support.portal.setTyping(session.id, false))
  await until(() => seen.length === 4, 'four events')
  assert.deepEqual(seen, [
    `${support.id} true`,
    `${customer.id} true`,
    `${customer.id} false`,
    `${support.id} false`,
  ])
})

test('sending a message ends typing', async () => {
  const { support, customer, session } = await conversation(stack)
  const seen = await watch(customer, session.id)
  must(await support.portal.setTyping(session.id, true))
  await support.portal.sendMessage({ session_id: session.id, message: 'there', sender_type: 'agent' })
  await until(() => seen.at(-1) === `${support.id} false`, 'the end of typing')
})

test('somebody who closed his laptop while typing is forgotten', async () => {
  const { support, customer, session } = await conversation(stack)
  const seen = await watch(customer, session.id)
  must(await support.portal.setTyping(session.id, true))
  await until(() => seen.length === 1, 'the agent to be seen typing')
  await sql(
    stack,
    `update public.chat_typing_indicators set updated_at = now() - interval '5 minutes' where session_id = $1`,
    [session.id],
  )
  await until(() => seen.at(-1) === `${support.id} false`, 'typing to expire')
})

test('a typing indicator tells the server’s time, not the browser’s', async () => {
  const { customer, session } = await conversation(stack)
  customer.portal.clock = () => Date.parse('2099-01-01T00:00:00Z')
  must(await customer.portal.setTyping(session.id, true))
  const [row] = await sql(
    stack,
    `select abs(extract(epoch from now() - updated_at)) < 60 as true_time
     from public.chat_typing_indicators where session_id = $1`,
    [session.id],
  )
  assert.deepEqual(row, { true_time: true })
})

test('the end of a chat ends typing in it', async () => {
  const { support, customer, session } = await conversation(stack)
  const seen = await watch(customer, session.id)
  must(await support.portal.setTyping(session.id, true))
  await customer.portal.endSession(session.id)
  await until(() => seen.at(-1) === `${support.id} false`, 'the end of typing')
})
