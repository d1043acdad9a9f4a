// A client that was away for longer than changes are kept is told so, and nobody else is. Here they are kept for a moment.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { client, letGo, proxy, sql, start, subscribed, until } from './support.mjs'

/** How long changes are kept here, in seconds. */
const WINDOW = 2
/** How long a client may need to find its way back: it waits longer each time. */
const BACK = 40_000

let stack

before(async () => {
  stack = await start({ args: ['--resume-window', String(WINDOW)] })
  await sql(
    stack,
    `create table public.notes (id bigint generated always as identity primary key, room text not null);
     grant select on public.notes to anon;
     alter publication supabase_realtime add table public.notes;`,
  )
})
after(() => stack.stop())

/** Resolves once what was written until now is not kept any more. */
const forgotten = () => letGo(stack)

const watch = async (url) => {
  const made = client({ ...stack, url })
  const [ids, gaps, joins] = [[], [], []]
  const channel = made
    .channel('gap')
    .on('system', {}, ({ status, message }) => (status === 'error' ? gaps : joins).push(message))
    .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'notes', filter: 'room=eq.gap' }, (change) =>
      ids.push(change.new.id),
    )
  await subscribed(channel)
  return { ids, gaps, joins }
}
const note = async () => {
  const [{ id }] = await sql(stack, `insert into public.notes (room) values ('gap') returning id`)
  return Number(id)
}

describe('a gap', () => {
  test('is told to a client that was away for too long', async () => {
    const way = await proxy(stack.url)
    const { ids, gaps } = await watch(way.url)
    const first = await note()
    await until(() => ids.length === 1, 'the first note')
    way.close()
    await note()
    await forgotten()
    way.open()
    await until(() => gaps.length > 0, 'word of the gap', BACK)
    const last = await note()
    await until(() => ids.at(-1) === last, 'a new note', BACK)
    assert.deepEqual(ids, [first, last])
  })

  test('is told to a client whose place was only known roughly', async () => {
    const way = await proxy(stack.url)
    const { ids, gaps } = await watch(way.url)
    const first = await note()
    await until(() => ids.length === 1, 'the first note')
    way.shut()
    // killed while the client was there: nobody noted where it was lost
    await stack.restart('SIGKILL')
    await note()
    await forgotten()
    await stack.restart('SIGKILL')
    way.open()
    await until(() => gaps.length > 0, 'word of the gap', BACK)
    const last = await note()
    await until(() => ids.at(-1) === last, 'a new note', BACK)
    assert.deepEqual(ids, [first, last])
  })

  test('is none where nothing changed', async () => {
    const way = await proxy(stack.url)
    const { ids, gaps, joins } = await watch(way.url)
    way.close()
    await forgotten()
    way.open()
    await until(() => joins.length === 2, 'it to be back', BACK)
    const id = await note()
    await until(() => ids.length > 0, 'a new note', BACK)
    assert.deepEqual(ids, [id])
    assert.deepEqual(gaps, [])
  })
})
