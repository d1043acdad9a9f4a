// REST as supabase-js speaks it, on tables of its own: every builder, embedding, writes, functions, errors, and that
// nobody ever answers under another's role.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

import { client, must, sql, start, token, until } from './support.mjs'

let stack, anon, service

const SCHEMA = `
  create table public.rest_clients (
    id int primary key, name text not null, data jsonb, tags text[], period int4range
  );
  create table public.rest_projects (
    id serial primary key, name text, client_id int references public.rest_clients, budget numeric(12,3) default 5
  );
  create table public.rest_tasks (
    id int primary key, name text default 'untitled', project_id int references public.rest_projects
  );
  create table public.rest_users (id int primary key, name text unique);
  create table public.rest_users_tasks (
    user_id int references public.rest_users, task_id int references public.rest_tasks, primary key (user_id, task_id)
  );
  create table public.rest_tree (id int primary key, parent_id int references public.rest_tree);
  create table public.rest_details (project_id int primary key references public.rest_projects, note text);
  create view public.rest_project_names as select id, name as title, client_id from public.rest_projects;
  create table public.rest_secrets (id serial primary key, owner uuid default auth.uid(), body text);
  alter table public.rest_secrets enable row level security;
  create policy own on public.rest_secrets to authenticated using (owner = (select auth.uid()));
  grant select, insert, update, delete on all tables in schema public to anon, authenticated, service_role;
  grant usage on all sequences in schema public to anon, authenticated, service_role;
  revoke all on public.rest_secrets from anon;

  create function public.rest_label(public.rest_clients) returns text
    language sql stable return 'client ' || $1.name;
  create function public.rest_add(a int, b int default 1) returns int language sql immutable return a + b;
  create function public.rest_all() returns setof public.rest_projects language sql stable
    begin atomic select * from public.rest_projects order by id; end;
  create function public.rest_nothing() returns void language sql begin atomic select; end;
  create function public.rest_whoami() returns json language sql stable
    return json_build_object('role', current_user, 'sub', auth.uid(), 'tag', current_setting('request.headers')::json->>'x-tag');
  create function public.rest_refuse() returns void language plpgsql set search_path = ''
    as $$ begin raise sqlstate 'PT402' using message = 'Payment needed', detail = 'd', hint = 'h'; end $$;

  insert into public.rest_clients values
    (1, 'Windows Co', '{"a": {"b": [1, 2, {"c": "x"}]}, "n": 5}', '{a,b}', '[1,5)'), (2, 'Apple', '{"n": 7}', '{b}', '[5,9)');
  insert into public.rest_projects (name, client_id) values
    ('Windows 7', 1), ('Windows 10', 1), ('IOS', 2), ('OSX', 2), ('Orphan', null);
  insert into public.rest_tasks values (1, 'Design w7', 1), (2, 'Code w7', 1), (3, 'Design w10', 2), (4, 'Code IOS', 3);
  insert into public.rest_users values (1, 'Angela'), (2, 'Michael'), (3, 'Dwight');
  insert into public.rest_users_tasks values (1, 1), (1, 2), (2, 1);
  insert into public.rest_tree values (1, null), (2, 1), (3, 1);
  insert into public.rest_details values (1, 'first');
`

const DROP = `
  drop function if exists public.rest_label, public.rest_add, public.rest_all, public.rest_nothing,
    public.rest_whoami, public.rest_refuse, public.rest_later;
  drop view if exists public.rest_project_names;
  drop table if exists public.rest_secrets, public.rest_details, public.rest_tree, public.rest_users_tasks,
    public.rest_users, public.rest_tasks, public.rest_projects, public.rest_clients, public.rest_late cascade;
`

before(async () => {
  stack = await start()
  await sql(stack, DROP)
  await sql(stack, SCHEMA)
  anon = client(stack)
  service = client(stack, stack.serviceKey)
  // the catalog hears of the schema by notification
  await until(async () => !(await anon.from('rest_details').select()).error, 'the new tables')
})

after(async () => {
  await sql(stack, DROP)
  await stack.stop()
})

/** A client that acts by a token of these claims. */
function acting(claims, headers = {}) {
  return createClient(stack.url, stack.anonKey, {
    auth: { persistSession: false, autoRefreshToken: false },
    global: { headers: { authorization: `Bearer ${token(stack, claims)}`, ...headers } },
    realtime: { transport: ws },
  })
}

const ids = (rows) => rows.map(({ id }) => id)

describe('filters', () => {
  const projects = () => anon.from('rest_projects').select('id').order('id')
  const clients = () => anon.from('rest_clients').select('id').order('id')

  for (const [name, query, expected] of [
    ['eq with a space', () => projects().eq('name', 'Windows 7'), [1]],
    ['neq', () => projects().neq('id', 1), [2, 3, 4, 5]],
    ['gt, lte', () => projects().gt('id', 1).lte('id', 3), [2, 3]],
    ['like', () => projects().like('name', '%7'), [1]],
    ['ilike', () => projects().ilike('name', 'win*'), [1, 2]],
    ['likeAnyOf', () => projects().likeAnyOf('name', ['I%', 'O%']), [3, 4, 5]],
    ['ilikeAllOf', () => projects().ilikeAllOf('name', ['w%', '%7']), [1]],
    ['is null', () => projects().is('client_id', null), [5]],
    ['in', () => projects().in('name', ['IOS', 'a,b', 'OSX']), [3, 4]],
    ['in nothing', () => projects().in('id', []), []],
    ['not in', () => projects().not('id', 'in', '(1,2)'), [3, 4, 5]],
    ['or', () => projects().or('id.eq.1,and(id.gt.3,name.like.O*)'), [1, 4, 5]],
    ['match', () => projects().match({ id: 2, client_id: 1 }), [2]],
    ['contains array', () => clients().contains('tags', ['a']), [1]],
    ['contains json', () => clients().contains('data', { n: 7 }), [2]],
    ['containedBy', () => clients().containedBy('tags', ['b', 'c']), [2]],
    ['overlaps', () => clients().overlaps('tags', ['a', 'z']), [1]],
    ['rangeGt', () => clients().rangeGt('period', '[0,3)'), [2]],
    ['rangeAdjacent', () => clients().rangeAdjacent('period', '[9,10)'), [2]],
    ['textSearch', () => clients().textSearch('name', 'windows', { config: 'english', type: 'websearch' }), [1]],
    ['json path', () => clients().eq('data->>n', '7'), [2]],
    ['computed field', () => clients().eq('rest_label', 'client Apple'), [2]],
    ['range', () => projects().range(1, 2), [2, 3]],
  ]) {
    test(name, async () => assert.deepEqual(ids(must(await query())), expected))
  }
})

describe('embedding', () => {
  test('to one, to many, many to many, by view', async () => {
    const rows = must(
      await anon
        .from('rest_projects')
        .select('name, client:rest_clients(name), rest_tasks(name, rest_users(name)), rest_details(note)')
        .eq('id', 1),
    )
    assert.deepEqual(rows, [
      {
        name: 'Windows 7',
        client: { name: 'Windows Co' },
        rest_tasks: [
          { name: 'Design w7', rest_users: [{ name: 'Angela' }, { name: 'Michael' }] },
          { name: 'Code w7', rest_users: [{ name: 'Angela' }] },
        ],
        rest_details: { note: 'first' },
      },
    ])
    const named = must(await anon.from('rest_project_names').select('title, rest_clients(name)').eq('id', 3).single())
    assert.deepEqual(named, { title: 'IOS', rest_clients: { name: 'Apple' } })
  })

  test('a table with itself, both ways', async () => {
    const rows = must(await anon.from('rest_tree').select('id, rest_tree(id), parent:parent_id(id)').in('id', [1, 2]).order('id'))
    assert.deepEqual(rows, [
      { id: 1, rest_tree: [{ id: 2 }, { id: 3 }], parent: null },
      { id: 2, rest_tree: [], parent: { id: 1 } },
    ])
  })

  test('inner, filters, order and limit inside', async () => {
    const rows = must(
      await anon
        .from('rest_clients')
        .select('name, rest_projects!inner(name)')
        .like('rest_projects.name', '%S%')
        .order('name', { referencedTable: 'rest_projects', ascending: false })
        .limit(1, { referencedTable: 'rest_projects' }),
    )
    assert.deepEqual(rows, [{ name: 'Apple', rest_projects: [{ name: 'OSX' }] }])
  })

  test('null filters, spread, count, order by a related row', async () => {
    const without = must(await anon.from('rest_projects').select('id, rest_clients()').is('rest_clients', null))
    assert.deepEqual(without, [{ id: 5 }])
    const spread = must(await anon.from('rest_projects').select('id, ...rest_clients(client:name)').lte('id', 1))
    assert.deepEqual(spread, [{ id: 1, client: 'Windows Co' }])
    const counted = must(await anon.from('rest_clients').select('rest_projects(count)').eq('id', 1))
    assert.deepEqual(counted, [{ rest_projects: [{ count: 2 }] }])
    const ordered = must(
      await anon.from('rest_projects').select('id, rest_clients(name)').order('rest_clients(name)').order('id').limit(1),
    )
    assert.deepEqual(ids(ordered), [3])
  })

  test('an unknown relation and an ambiguous one are told apart', async () => {
    const unknown = await anon.from('rest_projects').select('rest_nope(*)')
    assert.deepEqual([unknown.status, unknown.error.code], [400, 'PGRST200'])
    await sql(stack, 'alter table public.rest_projects add second_id int constraint rest_second references public.rest_clients')
    const several = await until(async () => {
      const answer = await anon.from('rest_projects').select('rest_clients(*)')
      return answer.error && answer
    }, 'the second way')
    assert.deepEqual([several.status, several.error.code, several.error.details.length], [300, 'PGRST201', 2])
    must(await anon.from('rest_projects').select('rest_clients!rest_second(*)'))
    await sql(stack, 'alter table public.rest_projects drop column second_id')
    await until(async () => !(await anon.from('rest_projects').select('rest_clients(*)')).error, 'the one way left')
  })
})

describe('counts and single rows', () => {
  test('count, head, maybeSingle, csv', async () => {
    const counted = await anon.from('rest_projects').select('*', { count: 'exact', head: true })
    assert.deepEqual([counted.count, counted.data, counted.status], [5, null, 200])
    const partly = await anon.from('rest_projects').select('id', { count: 'exact' }).limit(2)
    assert.deepEqual([partly.count, partly.status, partly.data.length], [5, 206, 2])
    assert.equal(must(await anon.from('rest_projects').select().eq('id', 99).maybeSingle()), null)
    const none = await anon.from('rest_projects').select().eq('id', 99).single()
    assert.deepEqual([none.status, none.error.code, none.error.details], [406, 'PGRST116', 'The result contains 0 rows'])
    assert.equal(must(await anon.from('rest_users').select('id,name').order('id').limit(1).csv()), 'id,name\n1,Angela')
  })
})

describe('writes', () => {
  test('insert, update, upsert and delete give what was asked for', async () => {
    const inserted = must(
      await anon.from('rest_projects').insert([{ name: 'A', client_id: 1 }, { name: 'B' }]).select('name, rest_clients(name)'),
    )
    assert.deepEqual(inserted, [
      { name: 'A', rest_clients: { name: 'Windows Co' } },
      { name: 'B', rest_clients: null },
    ])
    const silent = await anon.from('rest_projects').insert({ name: 'C' })
    assert.deepEqual([silent.status, silent.data, silent.error], [201, null, null])
    const updated = await anon.from('rest_projects').update({ name: 'C2' }, { count: 'exact' }).eq('name', 'C')
    assert.deepEqual([updated.status, updated.count], [204, 1])
    const deleted = await anon.from('rest_projects').delete({ count: 'exact' }).in('name', ['A', 'B', 'C2']).select('name')
    assert.deepEqual([deleted.count, deleted.data.length], [3, 3])

    const first = await anon.from('rest_users').upsert([{ id: 1, name: 'Angela' }, { id: 9, name: 'New' }]).select()
    assert.deepEqual([first.status, first.data.length], [201, 2])
    const again = await anon.from('rest_users').upsert({ id: 9, name: 'Newer' })
    assert.equal(again.status, 200)
    const ignored = must(
      await anon.from('rest_users').upsert({ id: 10, name: 'Newer' }, { onConflict: 'name', ignoreDuplicates: true }).select(),
    )
    assert.deepEqual(ignored, [])
    must(await anon.from('rest_users').delete().eq('id', 9))
  })

  test('defaults for what only some objects have', async () => {
    const rows = must(
      await anon.from('rest_tasks').insert([{ id: 70 }, { id: 71, name: 'x' }], { defaultToNull: false }).select('name').order('id'),
    )
    assert.deepEqual(rows, [{ name: 'untitled' }, { name: 'x' }])
    must(await anon.from('rest_tasks').delete().gte('id', 70))
  })

  test('a write that is not about one row, or about too many, is taken back', async () => {
    const two = await anon.from('rest_projects').insert([{ name: 'gone' }, { name: 'gone' }]).select().single()
    assert.equal(two.error.code, 'PGRST116')
    const many = await anon.from('rest_users').delete().gt('id', 0).maxAffected(1)
    assert.equal(many.error.code, 'PGRST124')
    const { count } = await anon.from('rest_projects').select('*', { count: 'exact', head: true }).eq('name', 'gone')
    assert.equal(count, 0)
  })

  test('errors keep what Postgres says', async () => {
    const double = await anon.from('rest_users').insert({ id: 1, name: 'x' })
    assert.deepEqual([double.status, double.error.code], [409, '23505'])
    const column = await anon.from('rest_users').insert({ nope: 1 })
    assert.deepEqual([column.status, column.error.code], [400, 'PGRST204'])
    const type = await anon.from('rest_users').select().eq('id', 'abc')
    assert.deepEqual([type.status, type.error.code], [400, '22P02'])
    const table = await anon.from('rest_userz').select()
    assert.deepEqual([table.status, table.error.hint], [404, "Perhaps you meant the table 'public.rest_users'"])
  })
})

describe('functions', () => {
  test('values, rows, nothing, and a status of their own', async () => {
    assert.equal(must(await anon.rpc('rest_add', { a: 1, b: 2 })), 3)
    assert.equal(must(await anon.rpc('rest_add', { a: 1 }, { get: true })), 2)
    const rows = await anon.rpc('rest_all', {}, { count: 'exact' }).select('name, rest_clients(name)').eq('id', 3)
    assert.deepEqual([rows.data, rows.count], [[{ name: 'IOS', rest_clients: { name: 'Apple' } }], 1])
    const nothing = await anon.rpc('rest_nothing')
    assert.deepEqual([nothing.status, nothing.data], [204, null])
    const refused = await anon.rpc('rest_refuse')
    const { code, message, details, hint } = refused.error
    assert.deepEqual([refused.status, code, message, details, hint], [402, 'PT402', 'Payment needed', 'd', 'h'])
    const unknown = await anon.rpc('rest_add', { c: 1 })
    assert.deepEqual([unknown.status, unknown.error.code], [404, 'PGRST202'])
  })
})

describe('who asks', () => {
  test('rows and rights follow the token', async () => {
    const [a, b] = [randomUUID(), randomUUID()]
    const as = (sub) => acting({ role: 'authenticated', sub })
    const made = must(await as(a).from('rest_secrets').insert({ body: 'of a' }).select('owner').single())
    assert.equal(made.owner, a)
    assert.equal(must(await as(a).from('rest_secrets').select()).length, 1)
    assert.equal(must(await as(b).from('rest_secrets').select()).length, 0)
    assert.ok(must(await service.from('rest_secrets').select()).length >= 1)
    const refused = await anon.from('rest_secrets').select()
    assert.deepEqual([refused.status, refused.error.code], [401, '42501'])
    const forged = await acting({ role: 'supabase_admin' }).from('rest_secrets').select()
    assert.deepEqual([forged.status, forged.error.code], [403, '42501'])
    const unknown = await acting({ role: 'nobody_at_all' }).from('rest_secrets').select()
    assert.deepEqual([unknown.status, unknown.error.code], [401, '22023'])
    const late = await acting({ role: 'authenticated', exp: 1000 }).from('rest_users').select()
    assert.deepEqual([late.status, late.error.message], [401, 'JWT expired'])
  })

  test('under load, with failures and hang-ups between, nobody answers as somebody else', async () => {
    const callers = Array.from({ length: 24 }, (_, index) => {
      const sub = randomUUID()
      const role = ['authenticated', 'service_role', 'anon'][index % 3]
      return { sub, role, tag: `t${index}`, client: acting({ role, sub }, { 'x-tag': `t${index}` }) }
    })
    let answers = 0
    await Promise.all(
      callers.map(async ({ sub, role, tag, client }) => {
        for (let round = 0; round < 25; round += 1) {
          const kind = (round * 7 + tag.length) % 5
          if (kind === 0) {
            await client.from('rest_users').select().eq('id', 'no number')
          } else if (kind === 1) {
            await client.from('rest_secrets').insert({ body: tag, id: 'no number' })
          } else if (kind === 2) {
            const hangUp = new AbortController()
            const asked = client.rpc('rest_whoami').abortSignal(hangUp.signal)
            setImmediate(() => hangUp.abort())
            await asked.then(() => {}, () => {})
          } else {
            assert.deepEqual(must(await client.rpc('rest_whoami')), { role, sub, tag })
            answers += 1
          }
        }
      }),
    )
    assert.ok(answers > 200)
    const [{ open }] = await sql(
      stack,
      "select count(*)::int as open from pg_stat_activity where usename = 'authenticator' and state like 'idle in%'",
    )
    assert.equal(open, 0)
  })
})

describe('changes of the schema', () => {
  test('a new table, a new column and a new function are served at once', async () => {
    await sql(stack, 'create table public.rest_late (id int primary key); grant all on public.rest_late to anon')
    await until(async () => !(await anon.from('rest_late').select()).error, 'the new table')
    must(await anon.from('rest_late').insert({ id: 1 }))
    await sql(stack, 'alter table public.rest_late alter id type text using id::text, add column more int default 3')
    await until(async () => !(await anon.from('rest_late').insert({ id: 'two', more: 2 })).error, 'the new column')
    assert.deepEqual(must(await anon.from('rest_late').select().eq('id', 'two')), [{ id: 'two', more: 2 }])
    await sql(stack, 'create function public.rest_later() returns int language sql return 5')
    await until(async () => (await anon.rpc('rest_later')).data === 5, 'the new function')
  })
})
