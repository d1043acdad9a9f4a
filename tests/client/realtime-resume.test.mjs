// A client that loses its connection gets what it missed: once, in order, before what is new. The client is
// supabase-js as it is; its connection leads through a proxy that can be cut.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import pg from 'pg'

import { client, must, proxy as wayTo, sql, start, subscribed, until, user } from './support.mjs'

/** How long a client may need to find its way back: it waits longer each time. */
const BACK = 40_000
/** How often connections are cut under load. */
const CUTS = 12

let stack

before(async () => {
  stack = await start({})
  await sql(
    stack,
    `create table public.notes (id bigint generated always as identity primary key, room text not null, owner uuid);
     alter table public.notes enable row level security;
     create policy "own notes" on public.notes for select to authenticated using (owner = auth.uid());
     grant select on public.notes to authenticated;
     alter publication supabase_realtime add table public.notes;`,
  )
})
after(() => stack.stop())

const proxy = () => wayTo(stack.url)

/**
 * A listener to a room's notes by way of `url`: `ids` as they came, and `broadcasts`. With the `session` of another
 * it is a tab beside it.
 */
async function listener(person, url, room, session) {
  const own = client({ ...stack, url })
  if (session) must(await own.auth.setSession(session))
  else must(await own.auth.signInWithPassword({ email: person.email, password: person.password }))
  return { ...(await listen(own, room)), client: own }
}

async function listen(own, room) {
  const [ids, broadcasts] = [[], []]
  const channel = own
    .channel(`room-${room}`)
    .on('broadcast', { event: '*' }, (message) => broadcasts.push(message))
    .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'notes', filter: `room=eq.${room}` }, (change) =>
      ids.push(change.new.id),
    )
  await subscribed(channel)
  return { ids, broadcasts, channel }
}

const write = async (person, room, count = 1) => {
  const rows = await sql(
    stack,
    'insert into public.notes (room, owner) select $1, $2 from generate_series(1, $3) returning id',
    [room, person.id, count],
  )
  return rows.map((row) => Number(row.id))
}

/** That all came, once and in order. */
const same = (ids, written) => assert.deepEqual(ids, written)

/**
 * That all came in order, without a gap, where connections were cut so often: what had come and whose receipt was lost
 * with the connection comes once more, which nobody can tell from what had not come.
 */
const unbroken = (ids, written, cuts) => {
  const places = ids.map((id) => written.indexOf(id))
  const jumps = places.filter((place, at) => place !== (at === 0 ? 0 : places[at - 1] + 1))
  assert.ok(
    places.every((place, at) => place >= 0 && place <= (at === 0 ? 0 : places[at - 1] + 1)),
    `no gap in ${places}`,
  )
  assert.ok(jumps.length <= cuts, `only a cut repeats: ${places}`)
  assert.equal(places.at(-1), written.length - 1)
}

describe('a client that loses its connection', { concurrency: true }, () => {
  test('gets what was written meanwhile, once and in order', async () => {
    const [person, way] = [await user(stack), await proxy()]
    const listening = await listener(person, way.url, 'meanwhile')
    const written = await write(person, 'meanwhile', 3)
    await until(() => listening.ids.length === 3, 'the first notes')
    way.cut()
    written.push(...(await write(person, 'meanwhile', 5)), ...(await write(person, 'meanwhile')))
    await until(() => listening.ids.length >= written.length, 'the notes written meanwhile', BACK)
    written.push(...(await write(person, 'meanwhile')))
    await until(() => listening.ids.length >= written.length, 'a new note')
    same(listening.ids, written)
  })

  test('cut again and again while notes are written', async () => {
    const person = await user(stack)
    const ways = await Promise.all([proxy(), proxy(), proxy()])
    const all = await Promise.all(ways.map((way) => listener(person, way.url, 'cuts')))
    const written = []
    let writing = true
    const writer = (async () => {
      while (writing) {
        written.push(...(await write(person, 'cuts', 1 + (written.length % 3))))
        await delay(Math.random() * 20)
      }
    })()
    for (let cut = 0; cut < CUTS; cut += 1) {
      const at = cut % ways.length
      const before = all[at].ids.length
      await until(() => all[at].ids.length > before + 5, 'notes to come', BACK)
      ways[at].cut()
    }
    writing = false
    await writer
    for (const { ids } of all) {
      await until(() => ids.at(-1) === written.at(-1), 'the last note', BACK)
      unbroken(ids, written, CUTS)
    }
  })

  test('without a sign is found by its heartbeat, and loses nothing', async () => {
    const [person, way] = [await user(stack), await proxy()]
    const listening = await listener(person, way.url, 'frozen')
    const written = await write(person, 'frozen', 2)
    await until(() => listening.ids.length === 2, 'the first notes')
    // its answer to our ping has to be with us before nothing passes any more
    await until(async () => {
      const [row] = await sql(stack, `select count(*) from realtime.resumable where lost_at is null and commit > '0/0'`)
      return Number(row.count) > 0
    }, 'a receipt')
    await delay(300)
    way.freeze()
    written.push(...(await write(person, 'frozen', 4)))
    // the client gives up and comes by another way; the gateway still believes in the old one
    listening.client.realtime.conn?.close()
    way.cut()
    await until(() => listening.ids.length >= written.length, 'the notes written meanwhile', BACK)
    same(listening.ids, written)
  })

  test('does not hand what it missed to another tab', async () => {
    const [person, way] = [await user(stack), await proxy()]
    const first = await listener(person, way.url, 'tabs')
    const written = await write(person, 'tabs', 2)
    await until(() => first.ids.length === 2, 'the first notes')
    way.cut()
    written.push(...(await write(person, 'tabs', 3)))
    const { data: sameBrowser } = await first.client.auth.getSession()
    const second = await listener(person, stack.url, 'tabs', sameBrowser.session)
    await until(() => first.ids.length >= written.length, 'the notes written meanwhile', BACK)
    const [last] = await write(person, 'tabs')
    written.push(last)
    await until(() => first.ids.length >= written.length && second.ids.length > 0, 'a new note')
    same(first.ids, written)
    same(second.ids, [last])
  })

  test('who leaves and comes again starts anew', async () => {
    const person = await user(stack)
    const listening = await listener(person, stack.url, 'anew')
    await write(person, 'anew', 2)
    await until(() => listening.ids.length === 2, 'the first notes')
    const witness = await listener(person, stack.url, 'anew')
    await listening.client.removeChannel(listening.channel)
    await write(person, 'anew', 2)
    // a join may still hear what was written a moment before it
    await until(() => witness.ids.length === 2, 'what is written meanwhile, by another client')
    const again = await listen(listening.client, 'anew')
    const [last] = await write(person, 'anew')
    await until(() => again.ids.length > 0, 'a new note')
    same(again.ids, [last])
  })

  test('is judged by what it may see when it is back', async () => {
    const [person, other, way] = [await user(stack), await user(stack), await proxy()]
    const listening = await listener(person, way.url, 'rights')
    const written = await write(person, 'rights')
    await until(() => listening.ids.length === 1, 'the first note')
    way.cut()
    await write(other, 'rights', 3)
    const taken = await write(person, 'rights')
    await sql(stack, 'update public.notes set owner = $1 where id = any($2)', [other.id, taken])
    written.push(...(await write(person, 'rights')))
    await until(() => listening.ids.length >= written.length, 'the note that is his', BACK)
    same(listening.ids, written)
  })
})

describe('a client that comes back', () => {
  test('when it cannot be taken in finds its place again', async () => {
    const [person, way, admin] = [await user(stack), await proxy(), new pg.Client(stack.adminUrl)]
    await admin.connect()
    const listening = await listener(person, way.url, 'refused')
    const written = await write(person, 'refused', 2)
    await until(() => listening.ids.length === 2, 'the first notes')
    const errors = []
    listening.channel.joinPush.receive('error', (reply) => errors.push(reply))
    // as if the database went away between two statements
    await admin.query('alter table realtime.subscription rename to elsewhere')
    way.cut()
    written.push(...(await write(person, 'refused', 3)))
    await until(() => errors.length > 0, 'a join that is refused', BACK)
    // what stands there is gone too, as after a crash of Postgres
    await admin.query('truncate realtime.resumable')
    await admin.query('alter table realtime.elsewhere rename to subscription')
    await until(() => listening.ids.length >= written.length, 'the notes written meanwhile', BACK)
    same(listening.ids, written)
    await admin.end()
  })
})

describe('a gateway that is started again', () => {
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`after ${signal} sends what was written meanwhile`, async () => {
      const person = await user(stack)
      const room = signal.toLowerCase()
      const listening = await listener(person, stack.url, room)
      const written = await write(person, room, 3)
      await sql(stack, `select realtime.send('{}', 'call', $1, false)`, [`room-${room}`])
      await until(() => listening.ids.length === 3 && listening.broadcasts.length > 0, 'the first notes')
      // what a killed gateway noted last
      await delay(500)
      await stack.restart(signal)
      written.push(...(await write(person, room, 4)))
      await until(() => listening.ids.length >= written.length, 'the notes written meanwhile', BACK)
      written.push(...(await write(person, room)))
      await until(() => listening.ids.length >= written.length, 'a new note')
      same(listening.ids, written)
      assert.equal(listening.broadcasts.length, 1, 'a broadcast of before is not sent anew')
    })
  }
})
