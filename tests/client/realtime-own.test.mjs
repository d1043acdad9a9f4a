// A client that is told of its own writes: the answer to a write comes first, then the change.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { changes, must, sql, start, until, user } from './support.mjs'

let stack
before(async () => {
  stack = await start()
  await sql(
    stack,
    `drop table if exists public.rt_own;
     create table public.rt_own (id uuid primary key default gen_random_uuid(), owner uuid, note text);
     alter table public.rt_own enable row level security;
     create policy own on public.rt_own to authenticated using (owner = (select auth.uid()));
     grant select, insert, update, delete on public.rt_own to authenticated;
     alter publication supabase_realtime add table public.rt_own;
     create or replace function public.rt_own_slowly() returns void language sql as 'select pg_sleep(3)';`,
  )
})
after(async () => {
  await sql(stack, 'drop table public.rt_own; drop function public.rt_own_slowly')
  await stack.stop()
})

/** Notes of whose rows are told of before `know` has said their id. */
function early(watched) {
  const [known, list] = [new Set(), []]
  return { list, know: (id) => (watched.list.some((change) => change.new.id === id) ? list.push(id) : known.add(id)) }
}

test('a row is known by its id before it is told of', async () => {
  const { client: mine, id: owner } = await user(stack)
  const watched = await changes(mine, { table: 'rt_own' })
  const before = early(watched)
  // An answer takes a while to be read that is larger than the change may be.
  const note = 'x'.repeat(4_000_000)
  for (let number = 0; number < 5; number++) {
    const { id } = must(await mine.from('rt_own').insert({ owner, note }).select().single())
    before.know(id)
  }
  for (let number = 0; number < 50; number++) {
    before.know(must(await mine.from('rt_own').insert({ owner, note: String(number) }).select('id').single()).id)
  }
  await until(() => watched.list.length === 55, 'all changes')
  assert.deepEqual(before.list, [])
  const notes = watched.list.slice(5).map((change) => change.new.note)
  assert.deepEqual(notes, Array.from({ length: 50 }, (_, number) => String(number)), 'in their order')
})

test('a long call does not keep the changes of others back', async () => {
  const { client: mine, id: owner } = await user(stack)
  const watched = await changes(mine, { table: 'rt_own' })
  let answered = false
  const call = mine.rpc('rt_own_slowly').then((answer) => {
    answered = true
    must(answer)
  })
  await until(async () => (await sql(stack, "select from pg_stat_activity where query like '%rt_own_slowly%' and pid <> pg_backend_pid() and state = 'active'")).length > 0, 'the call')
  await sql(stack, `insert into public.rt_own (owner, note) values ($1, 'by another')`, [owner])
  await watched.next((change) => change.new.note === 'by another')
  assert.equal(answered, false)
  await call
})
