// Realtime as supabase-js and bare websockets see it, on tables of its own.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { SOON, changes, client, sql, start, subscribed, token, until } from './support.mjs'

let stack

before(async () => {
  stack = await start()
  await sql(stack, SCHEMA)
})

after(async () => {
  await sql(stack, DROP)
  await stack?.stop()
})

const DROP = `
  drop policy if exists rt_read on realtime.messages;
  drop policy if exists rt_write on realtime.messages;
  drop table if exists public.rt_typing, public.rt_messages, public.rt_sessions, public.rt_values, public.rt_types,
    public.rt_columns, public.rt_full, public.rt_keyless, public.rt_broken, public.rt_touchy;
  drop domain if exists public.rt_moody;
  drop function if exists public.rt_fine(text);
  drop type if exists public.rt_mood, public.rt_pair;
`

const SCHEMA = `
  ${DROP}
  create table public.rt_sessions (id uuid primary key default gen_random_uuid(), customer_id uuid, agent_id uuid);
  create table public.rt_messages (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references public.rt_sessions on delete cascade,
    body text
  );
  create table public.rt_typing (
    session_id uuid not null references public.rt_sessions on delete cascade,
    user_id uuid not null,
    is_typing boolean not null default true,
    primary key (session_id, user_id)
  );
  create table public.rt_values (
    id int primary key, run uuid, n int, big bigint, price numeric, at timestamptz, name text, code varchar, ok boolean,
    key uuid
  );
  create table public.rt_columns (id int primary key, run uuid, open text, secret text);
  create table public.rt_full (id int primary key, run uuid, owner uuid, note text);
  alter table public.rt_full replica identity full;
  create table public.rt_keyless (run uuid, note text);
  create table public.rt_broken (id int primary key, owner uuid);
  create function public.rt_fine(text) returns boolean language plpgsql as 'begin return true; end';
  create domain public.rt_moody as text check (public.rt_fine(value));
  create table public.rt_touchy (id int primary key, mood public.rt_moody);
  create type public.rt_mood as enum ('sad', 'happy');
  create type public.rt_pair as (a int, b text);
  create table public.rt_types (
    id int primary key, i2 int2, i8 int8, num numeric, num_scale numeric(10, 2), f4 float4, f8 float8, b bool, t text,
    vc varchar(10), c char(4), u uuid, d date, ts timestamp, tstz timestamptz, tm time, tmtz timetz, iv interval,
    j json, jb jsonb, ia int[], ta text[], na numeric[], tza timestamptz[], nested int[][], jba jsonb[], ip inet,
    mc macaddr, mood public.rt_mood, moods public.rt_mood[], pair public.rt_pair, pairs public.rt_pair[], r int4range,
    mon money, bits bit(3), pt point, x xml, ts_vector tsvector, empty text, o oid, ba boolean[], da date[]
  );
  alter table public.rt_sessions enable row level security;
  alter table public.rt_messages enable row level security;
  alter table public.rt_typing enable row level security;
  alter table public.rt_full enable row level security;
  alter table public.rt_broken enable row level security;
  create policy own on public.rt_sessions for select to authenticated
    using (customer_id = (select auth.uid()) or agent_id = (select auth.uid()));
  create policy own on public.rt_messages for select to authenticated using (
    exists (select from public.rt_sessions s where s.id = session_id and (select auth.uid()) in (s.customer_id, s.agent_id))
  );
  create policy own on public.rt_typing for select to authenticated using (
    exists (select from public.rt_sessions s where s.id = session_id and (select auth.uid()) in (s.customer_id, s.agent_id))
  );
  create policy own on public.rt_full for select to authenticated using (owner = (select auth.uid()));
  create policy own on public.rt_broken for select to authenticated using (owner = (select auth.uid()));
  grant select on public.rt_sessions, public.rt_messages, public.rt_typing, public.rt_values, public.rt_types,
    public.rt_full, public.rt_keyless, public.rt_broken, public.rt_touchy to anon, authenticated, service_role;
  revoke all on public.rt_columns from anon, authenticated;
  grant select (id, run, open) on public.rt_columns to authenticated;
  grant select on public.rt_columns to service_role;
  alter publication supabase_realtime add table public.rt_sessions, public.rt_messages, public.rt_typing,
    public.rt_values, public.rt_types, public.rt_columns, public.rt_full, public.rt_keyless, public.rt_broken,
    public.rt_touchy;
  create policy rt_read on realtime.messages for select to authenticated
    using (realtime.topic() like 'rt-open-%' or realtime.topic() = 'rt-of-' || (select auth.uid()::text));
  create policy rt_write on realtime.messages for insert to authenticated
    with check (realtime.topic() = 'rt-of-' || (select auth.uid()::text));
`

/** A client that acts as a user, without the auth service. `become` gives it another token. */
async function as(claims = {}, { vsn } = {}) {
  const id = claims.sub ?? randomUUID()
  let current = token(stack, { role: 'authenticated', sub: id, ...claims })
  const made = createClient(stack.url, stack.anonKey, {
    accessToken: async () => current,
    realtime: { transport: ws, ...(vsn && { vsn }) },
  })
  stack.clients.push(made)
  await made.realtime.setAuth()
  const become = async (sub) => {
    current = token(stack, { role: 'authenticated', sub })
    await made.realtime.setAuth()
  }
  return { client: made, id, become }
}

async function session(customer, agent) {
  const [{ id }] = await sql(
    stack,
    'insert into public.rt_sessions (customer_id, agent_id) values ($1, $2) returning id',
    [customer, agent],
  )
  return id
}

async function message(sessionId, body) {
  await sql(stack, 'insert into public.rt_messages (session_id, body) values ($1, $2)', [sessionId, body])
}

/** A websocket without a library: frames as they are. */
async function raw({ vsn = '2.0.0', key = stack.anonKey, query = `apikey=${key}&vsn=${vsn}` } = {}) {
  const socket = new ws(`${stack.url.replace('http', 'ws')}/realtime/v1/websocket?${query}`)
  const frames = []
  let closed, reason
  socket.on('message', (data, binary) => frames.push(binary ? data : JSON.parse(data)))
  socket.on('close', (code, text) => ([closed, reason] = [code, String(text)]))
  await new Promise((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('unexpected-response', async (_, response) => {
      const chunks = []
      for await (const chunk of response) chunks.push(chunk)
      reject(Object.assign(new Error('refused'), { status: response.statusCode, body: Buffer.concat(chunks).toString() }))
    })
    socket.on('error', reject)
  })
  return {
    socket,
    frames,
    send: (frame) => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
    next: (test, what = 'a frame') => until(() => frames.find(test), `${what} among ${JSON.stringify(frames)}`),
    closed: () => until(() => closed, 'the end of the socket'),
    reason: () => reason,
    /** Joins in version 2; gives the reply's payload. */
    async join(topic, config = {}, more = {}, ref = '1') {
      this.send([ref, ref, topic, 'phx_join', { config, ...more }])
      const reply = await this.next((f) => f[1] === ref && f[2] === topic && f[3] === 'phx_reply', `a reply to ${topic}`)
      return reply[4]
    },
  }
}

/** Lets everything committed so far arrive: a marker row comes after it. */
async function caughtUp(watcher) {
  const run = randomUUID()
  await sql(stack, 'insert into public.rt_values (id, run) values ((random() * 2e9)::int, $1)', [run])
  await watcher.next((change) => change.new?.run === run, 'the marker row')
}

const markers = () => ({ table: 'rt_values' })

for (const vsn of ['1.0.0', '2.0.0']) {
  describe(`protocol ${vsn}`, () => {
    test('insert, update and delete reach those who may see them, and nobody else', async () => {
      const [customer, agent, stranger] = await Promise.all([as({}, { vsn }), as({}, { vsn }), as({}, { vsn })])
      const anon = client(stack)
      const service = client(stack, stack.serviceKey)
      const id = await session(customer.id, agent.id)
      const wanted = { table: 'rt_messages', filter: `session_id=eq.${id}` }
      const seen = {
        customer: await changes(customer.client, wanted, markers()),
        agent: await changes(agent.client, { table: 'rt_messages' }, markers()),
        stranger: await changes(stranger.client, wanted, markers()),
        anon: await changes(anon, { table: 'rt_messages' }, markers()),
        service: await changes(service, wanted, markers()),
      }
      await message(id, 'hello')
      await sql(stack, `update public.rt_messages set body = 'changed' where session_id = $1`, [id])
      for (const each of Object.values(seen)) await caughtUp(each)
      const of = (who) => seen[who].list.filter((change) => change.table === 'rt_messages')
      for (const who of ['customer', 'agent', 'service']) {
        assert.deepEqual(of(who).map((c) => [c.eventType, c.new.body]), [['INSERT', 'hello'], ['UPDATE', 'changed']], who)
      }
      const [insert, update] = of('customer')
      assert.equal(insert.schema, 'public')
      assert.match(insert.commit_timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      assert.equal(insert.errors, null)
      assert.deepEqual(insert.old, {})
      assert.deepEqual(update.old, { id: update.new.id })
      assert.deepEqual([of('stranger'), of('anon')], [[], []])
    })

    test('broadcast with acknowledgement, to itself and to the other version', async () => {
      const topic = `room-${randomUUID()}`
      const [one, other] = [await as({}, { vsn }), await as({}, { vsn: vsn === '1.0.0' ? '2.0.0' : '1.0.0' })]
      const heard = { one: [], other: [] }
      const listen = (who, config) =>
        subscribed(
          who.client
            .channel(topic, { config })
            .on('broadcast', { event: 'hi' }, (m) => heard[who === one ? 'one' : 'other'].push(m.payload)),
        )
      const mine = await listen(one, { broadcast: { ack: true, self: true } })
      await listen(other, { broadcast: { self: false } })
      assert.equal(await mine.send({ type: 'broadcast', event: 'hi', payload: { t: 'é' } }), 'ok')
      await until(() => heard.one.length && heard.other.length, 'both to hear it')
      assert.deepEqual(heard, { one: [{ t: 'é' }], other: [{ t: 'é' }] })
    })

    test('presence is told to everybody and ends with the channel', async () => {
      const topic = `presence-${randomUUID()}`
      const [one, other] = [await as({}, { vsn }), await as({}, { vsn })]
      const open = async (who, key) => {
        const channel = who.client.channel(topic, { config: { presence: { key } } })
        channel.on('presence', { event: 'sync' }, () => {})
        await subscribed(channel)
        return channel
      }
      const [a, b] = [await open(one, 'a'), await open(other, 'b')]
      assert.equal(await a.track({ mood: 1 }), 'ok')
      await b.track({ mood: 2 })
      await until(() => a.presenceState().b && b.presenceState().a, 'both to know each other')
      assert.equal(b.presenceState().a[0].mood, 1)
      await a.track({ mood: 3 })
      await until(() => b.presenceState().a?.[0].mood === 3, 'the change')
      await b.untrack()
      await until(() => !a.presenceState().b, 'b to be gone')
      await one.client.removeChannel(a)
      await until(() => !b.presenceState().a, 'a to be gone')
    })
  })
}

describe('changes', () => {
  test('a replaced agent loses sight at once', async () => {
    const [customer, old, next] = [await as(), await as(), await as()]
    const id = await session(customer.id, old.id)
    const wanted = { table: 'rt_messages', filter: `session_id=eq.${id}` }
    const [before, later] = [
      await changes(old.client, wanted, markers()),
      await changes(next.client, wanted, markers()),
    ]
    await message(id, '1')
    await before.next((c) => c.new.body === '1')
    await sql(stack, 'update public.rt_sessions set agent_id = $2 where id = $1', [id, next.id])
    await message(id, '2')
    await later.next((c) => c.new.body === '2')
    await caughtUp(before)
    await caughtUp(later)
    const bodies = (watcher) => watcher.list.filter((c) => c.new.body).map((c) => c.new.body)
    assert.deepEqual([bodies(before), bodies(later)], [['1'], ['2']])
  })

  test('a typing row deleted tells whose it was, and strangers nothing', async () => {
    const [customer, agent, stranger] = [await as(), await as(), await as()]
    const id = await session(customer.id, agent.id)
    const mine = await changes(agent.client, { table: 'rt_typing', filter: `session_id=eq.${id}` }, markers())
    const other = await changes(agent.client, { table: 'rt_typing', filter: `session_id=eq.${randomUUID()}` }, markers())
    const theirs = await changes(stranger.client, { table: 'rt_typing' }, markers())
    await sql(stack, 'insert into public.rt_typing (session_id, user_id) values ($1, $2)', [id, customer.id])
    await sql(stack, 'update public.rt_typing set is_typing = false where session_id = $1', [id])
    // Policies judge the row as it is in the table: it has to be there until they have.
    await mine.next((change) => change.eventType === 'UPDATE')
    await sql(stack, 'delete from public.rt_typing where session_id = $1', [id])
    for (const each of [mine, other, theirs]) await caughtUp(each)
    const typing = (watcher) => watcher.list.filter((c) => c.table === 'rt_typing')
    assert.deepEqual(typing(mine).map((c) => c.eventType), ['INSERT', 'UPDATE', 'DELETE'])
    assert.deepEqual(typing(mine)[2].old, { session_id: id, user_id: customer.id })
    assert.deepEqual([typing(other), typing(theirs)], [[], []])
  })

  test('with a full identity old rows are there, judged and cut', async () => {
    const [owner, stranger] = [await as(), await as()]
    const run = randomUUID()
    const wanted = { table: 'rt_full', filter: `run=eq.${run}` }
    const [mine, theirs] = [
      await changes(owner.client, wanted, markers()),
      await changes(stranger.client, wanted, markers()),
    ]
    await sql(stack, `insert into public.rt_full values (1, $1, $2, 'a')`, [run, owner.id])
    await sql(stack, `update public.rt_full set note = 'b' where id = 1`)
    await mine.next((change) => change.eventType === 'UPDATE')
    await sql(stack, 'delete from public.rt_full where id = 1')
    await caughtUp(mine)
    await caughtUp(theirs)
    const of = (watcher) => watcher.list.filter((c) => c.table === 'rt_full')
    assert.deepEqual(of(mine).map((c) => c.old), [{}, { id: 1, run, owner: owner.id, note: 'a' }, { id: 1 }])
    assert.deepEqual(of(theirs), [])
  })

  test('filters of all operators', async () => {
    const run = randomUUID()
    const rows = [
      [1, 5, 9007199254740993n, '1.50', '2024-01-02T00:00:00Z', 'Alpha, one', 'x1', true, randomUUID()],
      [2, 10, 5n, '10', '2024-02-02T00:00:00Z', 'beta', 'y2', false, randomUUID()],
      [3, null, null, null, null, null, null, null, null],
    ]
    const cases = {
      'n=eq.5': [1],
      'n=neq.5': [2],
      'n=lt.10': [1],
      'n=lte.10': [1, 2],
      'n=gt.5': [2],
      'n=gte.5': [1, 2],
      'n=in.(5,7)': [1],
      'n=not.in.(5,7)': [2],
      'n=not.eq.5': [2],
      'n=is.null': [3],
      'n=not.is.null': [1, 2],
      'n=isdistinct.5': [2, 3],
      'n=not.isdistinct.5': [1],
      'big=eq.9007199254740993': [1],
      'price=eq.1.5': [1],
      'price=gt.9': [2],
      'price=in.(1.500,10.0)': [1, 2],
      'at=lt.2024-01-15': [1],
      'at=eq.2024-01-02T01:00:00+01': [1],
      'name=eq."Alpha, one"': [1],
      'name=in.("Alpha, one",beta)': [1, 2],
      'name=like.Al%': [1],
      'name=ilike.al%': [1],
      'name=not.like.Al%': [2],
      'name=match.^b.*a$': [2],
      'name=imatch.^ALPHA': [1],
      'name=gt.b': [2],
      'code=like.x_': [1],
      'ok=is.true': [1],
      'ok=is.false': [2],
      'ok=is.unknown': [3],
      'ok=eq.true': [1],
      [`key=eq.${rows[0][8].toUpperCase()}`]: [1],
      [`run=eq.${run},n=gt.1,name=like.%a`]: [2],
      '': [1, 2, 3],
    }
    const { client: made } = await as()
    const got = {}
    const channel = made.channel(`filters-${run}`)
    for (const filter of Object.keys(cases)) {
      got[filter] = []
      const both = [filter, `run=eq.${run}`].filter(Boolean).join(',')
      channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'rt_values', filter: both }, (c) =>
        got[filter].push(c.new.id % 10),
      )
    }
    const watcher = await changes(made, markers())
    await subscribed(channel)
    const base = Math.floor(Math.random() * 2e8) * 10
    for (const [id, ...values] of rows) {
      await sql(stack, 'insert into public.rt_values values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', [
        base + id, run, ...values,
      ])
    }
    await caughtUp(watcher)
    assert.deepEqual(got, cases)
  })

  test('what cannot be subscribed is told, and spares the rest of the channel', async () => {
    const socket = await raw()
    const good = { event: '*', schema: 'public', table: 'rt_values' }
    const bad = {
      'n=eq.five': 'invalid input syntax for type integer: "five"',
      'nope=eq.1': 'invalid column for filter nope',
      'n=foo.1': 'Error parsing `filter` params: ["foo", "1"]',
      'n=in.1,2': '`in` filter value must be wrapped by parentheses',
      'n=eq.1,': 'filter must not contain empty segments',
      'name=match.(': 'invalid regular expression',
      'key=like.a%': 'operator does not exist',
      'n=is.true': 'is true filter requires a boolean column',
      [`n=in.(${Array.from({ length: 101 }, (_, i) => i)})`]: 'too many values for `in` filter. Maximum 100',
    }
    const wanted = Object.keys(bad).map((filter) => ({ ...good, filter }))
    const reply = await socket.join('realtime:bad', {
      postgres_changes: [good, ...wanted, { ...good, table: 'nope' }, { event: '*' }, { ...good, select: ['nope'] }],
    })
    assert.equal(reply.status, 'ok')
    assert.equal(reply.response.postgres_changes.length, wanted.length + 4)
    const errors = socket.frames.filter((f) => f[3] === 'system').map((f) => f[4])
    await until(() => socket.frames.filter((f) => f[3] === 'system').length >= wanted.length + 3, 'all errors')
    const told = socket.frames.filter((f) => f[3] === 'system').map((f) => f[4])
    assert.ok(told.every((each) => each.status === 'error' && each.extension === 'postgres_changes'), String(errors))
    for (const text of [...Object.values(bad), 'Please check Realtime is enabled', 'No subscription params', 'invalid column for select nope']) {
      assert.ok(told.some((each) => each.message.includes(text)), `${text} among ${JSON.stringify(told)}`)
    }
    await sql(stack, 'insert into public.rt_values (id) values ((random() * 2e9)::int)')
    await socket.next((f) => f[3] === 'postgres_changes', 'a change for the good one')
    socket.socket.close()
  })

  test('what is put right is found by the next join, however soon', async () => {
    const socket = await raw()
    const name = `rt_soon_${Math.floor(Math.random() * 2e9)}`
    const said = async (topic, filter, ref) => {
      await socket.join(topic, { postgres_changes: [{ event: '*', schema: 'public', table: name, filter }] }, {}, ref)
      const about = (f) => f[3] === 'system' && f[2] === topic
      return (await socket.next(about, `what became of ${topic}`))[4].message
    }
    await sql(stack, `create table public.${name} (id int primary key); grant select on public.${name} to anon`)
    assert.match(await said('realtime:one', undefined, '1'), /Please check Realtime is enabled/)
    await sql(stack, `alter publication supabase_realtime add table public.${name}`)
    assert.equal(await said('realtime:two', undefined, '2'), 'Subscribed to PostgreSQL')
    assert.match(await said('realtime:three', 'note=eq.a', '3'), /invalid column for filter note/)
    await sql(stack, `alter table public.${name} add column note text`)
    assert.equal(await said('realtime:four', 'note=eq.a', '4'), 'Subscribed to PostgreSQL')
    await sql(stack, `drop table public.${name}`)
    socket.socket.close()
  })

  test('columns that a role may not read or did not ask for are not there', async () => {
    const run = randomUUID()
    const { client: made } = await as()
    const filter = `run=eq.${run}`
    const all = await changes(made, { table: 'rt_columns', filter })
    const some = await changes(made, { table: 'rt_columns', filter, select: ['open'] })
    const service = await changes(client(stack, stack.serviceKey), { table: 'rt_columns', filter })
    await sql(stack, `insert into public.rt_columns values ((random() * 2e9)::int, $1, 'o', 's')`, [run])
    const of = async (watcher) => Object.keys((await watcher.next(() => true)).new)
    assert.deepEqual(await of(all), ['id', 'run', 'open'])
    assert.deepEqual(await of(some), ['id', 'open'])
    assert.deepEqual(await of(service), ['id', 'run', 'open', 'secret'])
    const socket = await raw()
    const auth = { access_token: token(stack, { role: 'authenticated', sub: randomUUID() }) }
    const hidden = { event: '*', schema: 'public', table: 'rt_columns', filter: 'secret=eq.s' }
    await socket.join('realtime:c', { postgres_changes: [hidden] }, auth)
    const told = await socket.next((f) => f[3] === 'system')
    assert.match(told[4].message, /invalid column for filter secret/)
    socket.socket.close()
  })

  test('every type looks as to_jsonb writes it', async () => {
    const socket = await raw()
    await socket.join('realtime:types', { postgres_changes: [{ event: '*', schema: 'public', table: 'rt_types' }] })
    const id = Math.floor(Math.random() * 2e9)
    await sql(
      stack,
      `insert into public.rt_types values (
        ${id}, -3, 9007199254740991, 12345678901234567890.50, 1.5, 1.25, 1e-7, true, E'a "b" \\\\ \\n é', 'vc', 'c',
        gen_random_uuid(), '2024-01-02', '2024-01-02 03:04:05.678901', '2024-01-02 03:04:05.1+05:30', '03:04:05',
        '03:04:05+02', '1 day 02:03:04', '{"a": [1, 2 ]}', '{"b": {"c": null}}', '{1,NULL,3}',
        '{a,NULL,"NULL","with, comma","quo\\"te",""}', '{1.50,2}', '{2024-01-02 00:00:00+00}', '{{1,2},{3,4}}',
        array['{"x": 1}'::jsonb, '"s"'], '10.0.0.0/8', '08:00:2b:01:02:03', 'happy', '{sad,happy}', row(1, 'p"q'),
        array[row(1, 'x, y')::public.rt_pair, row(null, '')::public.rt_pair], '[1,5)', 12.5, B'101', '(1,2)', '<a/>',
        'a b', null, 42, '{t,f,NULL}', '{2024-01-02,infinity}'
      )`,
    )
    const frame = await socket.next((f) => f[3] === 'postgres_changes' && f[4].data.record.id === id)
    const [{ expected }] = await sql(
      stack,
      `select to_jsonb(whole) || jsonb_build_object('tstz', to_jsonb(timezone('UTC', tstz)) #>> '{}' || '+00:00')
         || jsonb_build_object('tza', '["2024-01-02T00:00:00+00:00"]'::jsonb) as expected
       from public.rt_types as whole where id = $1`,
      [id],
    )
    assert.deepEqual(frame[4].data.record, expected)
    const types = Object.fromEntries(frame[4].data.columns.map(({ name, type }) => [name, type]))
    assert.deepEqual([types.i8, types.ta, types.moods, types.vc], ['int8', '_text', '_rt_mood', 'varchar'])
    await sql(stack, `insert into public.rt_types (id, f8, num, tstz) values ($1, 'NaN', 'NaN', 'infinity')`, [id + 1])
    const odd = await socket.next((f) => f[3] === 'postgres_changes' && f[4].data.record.id === id + 1)
    const { f8, num, tstz } = odd[4].data.record
    assert.deepEqual({ f8, num, tstz }, { f8: null, num: null, tstz: 'infinity' })
    socket.socket.close()
  })

  test('wildcards of schema and table, and a table that becomes published later', async () => {
    const { client: made } = await as()
    const all = await changes(made, { schema: '*', table: undefined })
    const id = Math.floor(Math.random() * 2e9)
    const name = `rt_late_${id}`
    await sql(stack, `create table public.${name} (id int primary key); grant select on public.${name} to authenticated;
      alter publication supabase_realtime add table public.${name}`)
    await sql(stack, 'insert into public.rt_values (id) values ($1)', [id])
    await sql(stack, `insert into public.${name} values (1)`)
    await all.next((c) => c.table === 'rt_values' && c.new.id === id)
    await all.next((c) => c.table === name)
    await sql(stack, `alter table public.${name} add column note text`)
    await sql(stack, `insert into public.${name} values (2, 'with a note')`)
    await all.next((c) => c.table === name && c.new.note === 'with a note')
    await sql(stack, `drop table public.${name}`)
  })

  test('a large change is cut, a large unchanged value is left out', async () => {
    const run = randomUUID()
    const watcher = await changes(await as().then((u) => u.client), { table: 'rt_values', filter: `run=eq.${run}` })
    const id = Math.floor(Math.random() * 2e9)
    // incompressible, so that it is stored out of line
    const big = `(select string_agg(md5(i::text), '') from generate_series(1, 40000) i)`
    await sql(stack, `insert into public.rt_values (id, run, name) values ($1, $2, ${big})`, [id, run])
    const cut = await watcher.next((c) => c.eventType === 'INSERT')
    assert.deepEqual(cut.errors, ['Error 413: Payload Too Large'])
    assert.equal(cut.new.id, id)
    assert.equal('name' in cut.new, false)
    await sql(stack, 'update public.rt_values set n = 1 where id = $1', [id])
    const update = await watcher.next((c) => c.eventType === 'UPDATE')
    assert.equal(update.errors, null)
    assert.equal(update.new.n, 1)
    assert.equal('name' in update.new, false)
  })

  test('a commit after the join is never missed', async () => {
    const { client: made, id: me } = await as()
    for (let i = 0; i < 30; i++) {
      const id = await session(me, null)
      const got = []
      const channel = made.channel(`gap-${id}`)
      channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'rt_messages', filter: `session_id=eq.${id}` }, (c) => got.push(c))
      await new Promise((resolve) => channel.subscribe((status) => status === 'SUBSCRIBED' && resolve()))
      await message(id, String(i))
      await until(() => got.length === 1, `message ${i}`)
      await made.removeChannel(channel)
    }
  })

  test('a broken identity hurts nobody else', async () => {
    const { client: made, id: fine } = await as()
    const broken = await raw()
    await broken.join(
      'realtime:broken',
      { postgres_changes: [{ event: '*', schema: 'public', table: 'rt_broken' }] },
      { access_token: token(stack, { role: 'authenticated', sub: 'no uuid' }) },
    )
    const good = await changes(made, { table: 'rt_broken' })
    await sql(stack, 'insert into public.rt_broken values ((random() * 2e9)::int, $1)', [fine])
    await sql(stack, 'insert into public.rt_broken select (random() * 2e9)::int, $1 from generate_series(1, 20)', [fine])
    await sql(stack, 'insert into public.rt_broken values ((random() * 2e9)::int, $1)', [fine])
    await until(() => good.list.length === 22, 'every row of the other')
    const told = await broken.next((f) => f[3] === 'system' && f[4].status === 'error')
    assert.match(told[4].message, /invalid input syntax for type uuid/)
    broken.send([null, '9', 'phoenix', 'heartbeat', {}])
    await broken.next((f) => f[1] === '9')
    assert.equal(broken.frames.some((f) => f[3] === 'postgres_changes'), false)
    // Once for the subscription, not for every change.
    assert.equal(broken.frames.filter((f) => f[3] === 'system' && f[4].status === 'error').length, 1)
    broken.socket.close()
  })

  test('a statement that Postgres refuses ends the subscriptions that need it, and holds up nobody', async () => {
    const stuck = await raw()
    const wanted = { event: '*', schema: 'public', table: 'rt_touchy', filter: 'mood=gt.a' }
    assert.equal((await stuck.join('realtime:stuck', { postgres_changes: [wanted] }, { access_token: token(stack, { role: 'authenticated' }) })).status, 'ok')
    const { client: made } = await as()
    const others = await changes(made, { table: 'rt_touchy' }, markers())
    // From now on the filter's own type cannot be read by those who check changes.
    await sql(stack, `create or replace function public.rt_fine(text) returns boolean language plpgsql as
      'begin if session_user = ''authenticator'' then raise ''out of mood''; end if; return true; end'`)
    const id = Math.floor(Math.random() * 2e9)
    await sql(stack, `insert into public.rt_touchy values ($1, 'b')`, [id])
    await others.next((c) => c.table === 'rt_touchy' && c.new.id === id)
    await caughtUp(others)
    const told = await stuck.next((f) => f[3] === 'system' && f[4].status === 'error')
    assert.match(told[4].message, /out of mood/)
    assert.deepEqual((await stuck.next((f) => f[3] === 'phx_error'))[2], 'realtime:stuck')
    stuck.socket.close()
  })

  test('every row of many writers arrives, however soon after its commit it is judged', async () => {
    const { client: made, id: me } = await as()
    const ids = await Promise.all(Array.from({ length: 4 }, () => session(me, null)))
    const watcher = await changes(made, { table: 'rt_messages', event: 'INSERT' })
    const [writers, each] = [ids.length, 500]
    await Promise.all(
      ids.map(async (id, writer) => {
        for (let i = 0; i < each; i++) await message(id, `${writer}/${i}`)
      }),
    )
    const mine = () => watcher.list.filter((c) => ids.includes(c.new.session_id)).map((c) => c.new.body)
    await until(() => mine().length >= writers * each, `all ${writers * each} rows`).catch((error) => {
      throw new Error(`${mine().length} of ${writers * each} rows came`, { cause: error })
    })
    assert.equal(new Set(mine()).size, writers * each)
    assert.equal(mine().length, writers * each)
    // Those of one writer in its order.
    ids.forEach((_, writer) => {
      const own = mine().filter((body) => body.startsWith(`${writer}/`))
      assert.deepEqual(own, Array.from({ length: each }, (_, i) => `${writer}/${i}`))
    })
  })

  test('a socket that does not read is closed with the reason, and delays nobody', async () => {
    const slow = await raw()
    const [me, run] = [randomUUID(), randomUUID()]
    const wanted = { event: 'INSERT', schema: 'public', table: 'rt_values', filter: `run=eq.${run}` }
    const access_token = token(stack, { role: 'authenticated', sub: me })
    assert.equal((await slow.join('realtime:slow', { postgres_changes: [wanted] }, { access_token })).status, 'ok')
    const fast = await changes(await as().then((u) => u.client), wanted)
    slow.socket.pause()
    const live = async () => (await sql(stack, `select from realtime.subscription where claims ->> 'sub' = $1`, [me])).length > 0
    const first = Math.floor(Math.random() * 1e9)
    let count = 0
    while (await live()) {
      assert.ok(count < 5_000, 'the slow socket is still served')
      // What the kernel's buffers take does not count: half a megabyte each, and the fast one keeps up.
      await sql(stack, `insert into public.rt_values (id, run, name)
        select $1::int + i, $2, repeat('x', 500000) from generate_series(0, 4) i`, [first + count, run])
      count += 5
      await until(() => fast.list.length === count, `${count} rows at the fast socket`)
    }
    slow.socket.resume()
    assert.equal(await slow.closed(), 1013)
    assert.equal(slow.reason(), 'too far behind in reading what is sent')
  })

  test('live subscriptions are shown in realtime.subscription', async () => {
    const { client: made, id } = await as()
    const filter = `session_id=eq.${randomUUID()}`
    const { channel } = await changes(made, { table: 'rt_messages', filter, event: 'INSERT' })
    const rows = () =>
      sql(
        stack,
        `select entity::text, filters::text, action_filter, claims_role::text from realtime.subscription
         where claims ->> 'sub' = $1`,
        [id],
      )
    const [row, ...more] = await rows()
    assert.equal(more.length, 0)
    assert.match(row.entity, /rt_messages$/)
    assert.equal(row.action_filter, 'INSERT')
    assert.equal(row.claims_role, 'authenticated')
    assert.match(row.filters, new RegExp(filter.slice('session_id=eq.'.length)))
    await made.removeChannel(channel)
    await until(async () => (await rows()).length === 0, 'the row to go')
  })

  test('some hundred sockets get their own changes, each once', async () => {
    const sockets = await Promise.all(Array.from({ length: 300 }, () => raw()))
    const users = sockets.map(() => randomUUID())
    const ids = await Promise.all(users.map((user) => session(user, null)))
    await Promise.all(
      sockets.map((socket, i) =>
        socket.join(
          `realtime:many-${i}`,
          { postgres_changes: [{ event: 'INSERT', schema: 'public', table: 'rt_messages', filter: `session_id=eq.${ids[i]}` }] },
          { access_token: token(stack, { role: 'authenticated', sub: users[i] }) },
        ),
      ),
    )
    await Promise.all(ids.map((id, i) => message(id, String(i))))
    await Promise.all(ids.map((id, i) => message(id, String(i))))
    const got = (socket) => socket.frames.filter((f) => f[3] === 'postgres_changes')
    await until(() => sockets.every((socket) => got(socket).length >= 2), 'two changes at each socket', SOON * 2)
    sockets.forEach((socket, i) => {
      assert.deepEqual(got(socket).map((f) => f[4].data.record.body), [String(i), String(i)])
      socket.socket.close()
    })
  })
})

describe('channels', () => {
  test('the reply repeats what was asked for, with ids', async () => {
    const socket = await raw()
    const wanted = [
      { event: 'INSERT', schema: 'public', table: 'rt_values', filter: 'n=eq.1' },
      null,
      { event: '*', schema: 'public' },
      { event: '*', schema: 'public' },
    ]
    const reply = await socket.join('realtime:echo', { postgres_changes: wanted })
    const shown = reply.response.postgres_changes
    assert.deepEqual(shown.map(({ id, ...rest }) => rest), wanted.filter(Boolean))
    assert.ok(shown.every(({ id }) => Number.isInteger(id) && id >= 0 && id < 2 ** 27))
    assert.equal(shown[1].id, shown[2].id)
    assert.notEqual(shown[0].id, shown[1].id)
    const system = await socket.next((f) => f[3] === 'system')
    assert.deepEqual(system, ['1', null, 'realtime:echo', 'system',
      { extension: 'postgres_changes', status: 'ok', message: 'Subscribed to PostgreSQL', channel: 'echo' }])
    await sql(stack, 'insert into public.rt_values (id, n) values ((random() * 2e9)::int, 1)')
    const change = await socket.next((f) => f[3] === 'postgres_changes')
    assert.deepEqual(change.slice(0, 3), [null, null, 'realtime:echo'])
    assert.deepEqual(new Set(change[4].ids), new Set([shown[0].id, shown[1].id]))
    socket.socket.close()
  })

  test('heartbeat, leave, duplicate join, stale and unknown messages', async () => {
    const socket = await raw()
    socket.send([null, '9', 'phoenix', 'heartbeat', {}])
    assert.deepEqual(await socket.next((f) => f[1] === '9'), [null, '9', 'phoenix', 'phx_reply', { status: 'ok', response: {} }])
    assert.deepEqual((await socket.join('realtime:x')).response, { postgres_changes: [] })
    // A second join ends the first.
    await socket.join('realtime:x', {}, {}, '2')
    assert.deepEqual(await socket.next((f) => f[3] === 'phx_close'), ['1', '1', 'realtime:x', 'phx_close', {}])
    // A message of the first is ignored, one of nobody's topic is not.
    socket.send(['1', '10', 'realtime:x', 'phx_leave', {}])
    socket.send(['7', '11', 'realtime:y', 'broadcast', {}])
    const unmatched = await socket.next((f) => f[1] === '11')
    assert.deepEqual(unmatched, [null, '11', 'realtime:y', 'phx_reply', { status: 'error', response: { reason: 'unmatched topic' } }])
    assert.equal(socket.frames.some((f) => f[1] === '10'), false)
    socket.send(['2', '12', 'realtime:x', 'phx_leave', {}])
    await socket.next((f) => f[1] === '12' && f[4].status === 'ok')
    await socket.next((f) => f[3] === 'phx_close' && f[0] === '2')
    socket.send(['2', '13', 'realtime:x', 'phx_leave', {}])
    assert.equal((await socket.next((f) => f[1] === '13'))[4].status, 'ok')
    assert.equal((await socket.join('realtime:')).response.reason, 'TopicNameRequired: You must provide a topic name')
    assert.equal((await socket.join('other')).response.reason, 'unmatched topic')
    socket.socket.close()
  })

  test('frames that cannot be read are dropped and the socket stays', async () => {
    for (const vsn of ['1.0.0', '2.0.0']) {
      const socket = await raw({ vsn })
      for (const bad of ['', 'x', '{}', '[]', '[1,2,3,4,5]', '["1","1","realtime:a"]', 'null', '['.repeat(10_000)]) socket.send(bad)
      for (const bad of [[], [3], [3, 255, 255, 255, 255, 255, 9], [0], [99, 1, 2], [3, 0, 0, 1, 1, 0, 1, 0xff, 0xff]]) {
        socket.socket.send(Buffer.from(bad))
      }
      const beat = vsn === '1.0.0'
        ? { topic: 'phoenix', event: 'heartbeat', payload: {}, ref: '5' }
        : [null, '5', 'phoenix', 'heartbeat', {}]
      socket.send(beat)
      await socket.next((f) => (f.ref ?? f[1]) === '5')
      assert.equal(socket.frames.length, 1)
      socket.socket.close()
    }
  })

  test('handshakes without a good key are refused with the reason', async () => {
    const now = Math.floor(Date.now() / 1000)
    const cases = [
      ['vsn=2.0.0', 401, 'API key is missing'],
      ['apikey=nonsense', 401, 'The token provided is not a valid JWT'],
      [`apikey=${token(stack, { role: 'anon', exp: now - 10 })}`, 401, 'Token has expired'],
      [`apikey=${token(stack, { role: undefined })}`, 401, 'Fields `role` and `exp` are required in JWT'],
      [`apikey=${stack.anonKey.slice(0, -4)}AAAA`, 401, 'Failed to validate JWT signature'],
    ]
    for (const [query, status, error] of cases) {
      const refusal = await raw({ query }).catch((refusal) => refusal)
      assert.deepEqual([refusal.status, JSON.parse(refusal.body)], [status, { error }], query)
    }
    for (const key of [stack.publishableKey, stack.secretKey]) (await raw({ key })).socket.close()
  })

  test('a token that ends closes its channels; bad tokens are refused at join', async () => {
    const socket = await raw()
    const now = Math.floor(Date.now() / 1000)
    const join = (topic, access_token) => socket.join(topic, {}, { access_token })
    assert.match((await join('realtime:1', token(stack, { role: 'anon', exp: now - 5 }))).response.reason, /^InvalidJWTToken: Token has expired \d+ seconds ago$/)
    assert.equal((await join('realtime:2', 'x.y')).response.reason, 'MalformedJWT: The token provided is not a valid JWT')
    assert.equal((await join('realtime:3', token(stack, { role: 'anon', exp: now + 3 }))).status, 'ok')
    const system = await socket.next((f) => f[3] === 'system')
    assert.match(system[4].message, /^Token has expired \d+ seconds ago$/)
    assert.deepEqual((await socket.next((f) => f[3] === 'phx_close'))[2], 'realtime:3')
    // A bad refresh ends the channel too, an unchanged one and a key do nothing.
    const good = token(stack, { role: 'anon' })
    assert.equal((await join('realtime:4', good)).status, 'ok')
    for (const access_token of [good, null, stack.publishableKey]) socket.send(['1', null, 'realtime:4', 'access_token', { access_token }])
    socket.send(['1', null, 'realtime:4', 'access_token', { access_token: '' }])
    assert.equal((await socket.next((f) => f[3] === 'system' && f[2] === 'realtime:4'))[4].message, 'The token provided is not a valid JWT')
    await socket.next((f) => f[3] === 'phx_close' && f[2] === 'realtime:4')
    socket.socket.close()
  })

  test('a new token changes who looks', async () => {
    const [first, second] = [randomUUID(), randomUUID()]
    const id = await session(second, null)
    const { client: made, become } = await as({ sub: first })
    const watcher = await changes(made, { table: 'rt_messages', filter: `session_id=eq.${id}` }, markers())
    await message(id, 'before')
    await caughtUp(watcher)
    const shown = async (sub) => (await sql(stack, `select from realtime.subscription where claims ->> 'sub' = $1`, [sub])).length
    await become(second)
    await until(async () => (await shown(second)) === 2 && (await shown(first)) === 0, 'the new subscriptions')
    await message(id, 'after')
    await watcher.next((c) => c.new.body === 'after')
    assert.equal(watcher.list.some((c) => c.new.body === 'before'), false)
  })

  test('private channels are read and written by policy', async () => {
    const [me, other] = [await as(), await as()]
    const topic = `rt-of-${me.id}`
    const own = { config: { private: true, broadcast: { ack: true } } }
    const refused = await new Promise((resolve) => {
      other.client.channel(topic, own).subscribe((status, error) => error && resolve(error.message))
    })
    assert.match(refused, new RegExp(`Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`))
    await other.client.removeAllChannels()
    const mine = await subscribed(me.client.channel(topic, own))
    assert.equal(await mine.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
    // Readable for both, writable for none: who wants to know is told.
    const shared = `rt-open-${randomUUID()}`
    const heard = []
    await subscribed(me.client.channel(shared, { config: { private: true } }).on('broadcast', { event: '*' }, (m) => heard.push(m)))
    const writer = await subscribed(other.client.channel(shared, { config: { private: true, broadcast: { ack: true } } }))
    assert.equal(await writer.send({ type: 'broadcast', event: 'no', payload: {} }), 'error')
    // The public channel of that name is another one.
    const open = await subscribed(client(stack).channel(shared, { config: { broadcast: { ack: true } } }))
    assert.equal(await open.send({ type: 'broadcast', event: 'public', payload: {} }), 'ok')
    await sql(stack, `select realtime.send('{"a": 1}', 'db', $1, true)`, [shared])
    await until(() => heard.length > 0, 'the message from the database')
    assert.deepEqual(heard.map((m) => m.event), ['db'])
  })

  test('broadcasts of before are sent to who asks for them', async () => {
    const { client: made } = await as()
    const topic = `rt-open-${randomUUID()}`
    const send = (event, payload = '{}', isPrivate = true) =>
      sql(stack, 'select realtime.send($1::jsonb, $2, $3, $4)', [payload, event, topic, isPrivate])
    const heard = (config) => {
      const list = []
      const channel = made.channel(topic, { config: { private: true, broadcast: config } })
      const error = new Promise((resolve) => {
        channel.on('broadcast', { event: '*' }, (message) => list.push(message))
        channel.subscribe((status, error) => (error ? resolve(error.message) : status === 'SUBSCRIBED' && resolve()))
      })
      return { list, channel, error }
    }
    const since = Date.now() - 60_000
    for (const event of ['a', 'b', 'c']) await send(event, '{"n": 1}')
    await send('public', '{}', false)
    await sql(stack, `select realtime.send_binary('\\x00ff', 'bytes', $1, true)`, [topic])
    const last = heard({ replay: { since, limit: 3 } })
    assert.equal(await last.error, undefined)
    await until(() => last.list.length === 3, 'the last three')
    assert.deepEqual(last.list.map(({ event, meta }) => [event, meta.replayed]), [['b', true], ['c', true], ['bytes', true]])
    assert.deepEqual([...new Uint8Array(last.list[2].payload)], [0, 255])
    assert.equal(last.list[0].meta.id, last.list[0].payload.id)
    await send('live')
    await until(() => last.list.length === 4, 'a live one')
    assert.equal(last.list[3].meta.replayed, undefined)
    await made.removeAllChannels()

    const later = heard({ replay: { since: Date.now() + 60_000 } })
    await later.error
    await send('new')
    await until(() => later.list.length > 0, 'a new one')
    assert.deepEqual(later.list.map(({ event }) => event), ['new'])
    await made.removeAllChannels()
    const bad = heard({ replay: { since, limit: 'all' } })
    assert.match(await bad.error, /UnableToReplayMessages: Replay params are not valid/)
    await made.removeAllChannels()
    const socket = await raw()
    const reply = await socket.join('realtime:open', { broadcast: { replay: { since } } })
    assert.match(reply.response.reason, /UnableToReplayMessages: Replay is not allowed for public channels/)
  })

  test('a channel that waits for it is told when the database is listened to', async () => {
    const { client: made } = await as()
    const channel = made.channel(`rt-open-${randomUUID()}`, { config: { private: true, broadcast: { replication_ready: true } } })
    const told = new Promise((resolve) => channel.on('system', {}, (each) => each.extension === 'system' && resolve(each)))
    await subscribed(channel)
    const { status, message } = await told
    assert.deepEqual([status, message], ['ok', 'Replication connection established'])
  })

  test('broadcasts from the database and over HTTP', async () => {
    const topic = `rt-public-${randomUUID()}`
    const heard = []
    const { client: made } = await as()
    const channel = made.channel(topic).on('broadcast', { event: '*' }, (m) => heard.push(m))
    await subscribed(channel)
    const heardOf = (event) => until(() => heard.find((m) => m.event === event), `${event} among ${JSON.stringify(heard)}`)
    await sql(stack, `select realtime.send('{"a": 1}', 'db', $1, false)`, [topic])
    const fromDatabase = await heardOf('db')
    assert.equal(fromDatabase.payload.a, 1)
    assert.equal(fromDatabase.meta.id, fromDatabase.payload.id)
    await sql(stack, `select realtime.send_binary('\\x00ff', 'bytes', $1, false)`, [topic])
    assert.deepEqual([...new Uint8Array((await heardOf('bytes')).payload)], [0, 255])
    await sql(stack, `select realtime.send('{"a": 1}', 'private', $1, true)`, [topic])

    const other = await as()
    const sent = await other.client.channel(topic).httpSend('http', { b: 2 })
    assert.equal(sent.success, true)
    assert.deepEqual((await heardOf('http')).payload, { b: 2 })
    const post = (path, body, headers = {}) =>
      fetch(`${stack.url}/realtime/v1/api/broadcast${path}`, {
        method: 'POST',
        headers: { apikey: stack.anonKey, 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      })
    const batch = { messages: [{ topic, event: 'batch', payload: { c: 3 } }, { topic, event: 'no', payload: {}, private: true }] }
    assert.equal((await post('', batch)).status, 202)
    assert.deepEqual((await heardOf('batch')).payload, { c: 3 })
    assert.equal((await post('', { messages: [{ topic, event: 'e', payload: 5 }] })).status, 422)
    assert.equal((await post('', 'nonsense')).status, 400)
    assert.equal((await post('', batch, { apikey: 'nonsense' })).status, 401)
    assert.equal((await post(`/${topic}/events/e`, 'x', { 'content-type': 'text/plain' })).status, 415)
    assert.equal((await post(`/${topic}/events/e?private=true`, {})).status, 403)
    assert.equal(heard.some((m) => ['no', 'private'].includes(m.event)), false)
  })
})
