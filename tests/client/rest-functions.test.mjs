// REST calls of functions as the database declares them, what their media types make of values, and how the
// description tells of all this.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { client, sql, start, until } from './support.mjs'

let stack

const SCHEMA = `
  create domain public."text/plain" as text;
  create domain public."text/xml" as xml;
  create domain public."application/ld+json" as jsonb;
  create type public.fn_mood as enum ('calm', 'cross');
  create table public.fn_desks (
    id bigint generated always as identity primary key,
    name varchar(20) not null default 'desk',
    mood public.fn_mood,
    labels jsonb[],
    fields jsonb
  );
  comment on table public.fn_desks is E'Desks\\n\\nwhere agents sit';
  create table public.fn_agents (id int primary key, desk_id bigint references public.fn_desks);
  comment on column public.fn_agents.desk_id is 'Where';
  create view public.fn_a_view as select id, name from public.fn_desks;

  create function public.fn_code(code char(3), codes char(3)[]) returns text language sql immutable
    return code || array_to_string(codes, '+');
  create function public.fn_lines() returns setof "text/plain" language sql immutable
    begin atomic select 'a'::"text/plain" union all select 'b'::"text/plain"; end;
  create function public.fn_none() returns "text/plain" language sql immutable return null::"text/plain";
  create function public.fn_xml() returns "text/xml" language sql immutable return E'\\n<a/>'::"text/xml";
  create function public.fn_graph() returns "application/ld+json" language sql immutable
    return '{"a":1}'::"application/ld+json";
  create function public.fn_take_number(int) returns int language sql immutable return $1;
  create function public.fn_take_numeral(text) returns text language sql immutable return $1;
  create function public.fn_ready() returns boolean language sql stable return true;
  create function public.fn_sum(mood public.fn_mood, variadic numbers int[] default '{}')
    returns bigint language sql immutable return (select sum(n) from unnest(numbers) n);
  comment on function public.fn_ready() is E'Ready or not\\nSays when.';

  grant select, insert, update, delete on all tables in schema public to anon, authenticated, service_role;
`

before(async () => {
  stack = await start({})
  await sql(stack, SCHEMA)
  await until(async () => (await client(stack).rpc('fn_ready')).data, 'the new schema')
})

after(() => stack.stop())

/** Status, content type and text of a call. */
async function call(name, headers = {}, body = undefined) {
  const answer = await fetch(`${stack.url}/rest/v1/rpc/${name}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { apikey: stack.anonKey, ...headers },
    body,
  })
  return [answer.status, answer.headers.get('content-type'), await answer.text()]
}

describe('functions', () => {
  test('a type without a length takes any length, in arrays too', async () => {
    const [, , text] = await call('fn_code?code=abcdef&codes={abcd,xyz}')
    assert.equal(text, '"abcdefabcd+xyz"')
  })

  test('a function that no request can call is neither called nor a hint', async () => {
    const json = { 'content-type': 'application/json' }
    const [status, , text] = await call('fn_take_number', json, '{"n": 1}')
    assert.deepEqual([status, JSON.parse(text).code], [404, 'PGRST202'])
    assert.equal(JSON.parse(text).hint, 'Perhaps you meant to call the function public.fn_take_numeral')
    // a body of another type is told by its type alone
    const [, , refused] = await call('fn_take_number', { 'content-type': 'text/plain' }, 'one')
    assert.equal(JSON.parse(refused).hint, null)
  })

  test('a value of a media type comes as Postgres sends it, a set of them does not', async () => {
    const xml = await call('fn_xml', { accept: 'text/xml' })
    assert.deepEqual(xml, [200, 'text/xml; charset=utf-8', '<a/>'])
    // the binary form of jsonb begins with its version
    const graph = await call('fn_graph', { accept: 'application/ld+json' })
    assert.deepEqual(graph, [200, 'application/ld+json', '\u0001{"a": 1}'])
    assert.deepEqual(await call('fn_none', { accept: 'text/plain' }), [200, 'text/plain; charset=utf-8', ''])
    const [status, , text] = await call('fn_lines', { accept: 'text/plain' })
    assert.deepEqual([status, JSON.parse(text).code], [406, 'PGRST107'])
    assert.deepEqual(JSON.parse((await call('fn_lines'))[2]), ['a', 'b'])
  })
})

describe('the description', () => {
  let described
  before(async () => {
    const answer = await fetch(`${stack.url}/rest/v1/`, { headers: { apikey: stack.anonKey } })
    described = await answer.json()
  })

  test('of relations', () => {
    const { description, properties, required } = described.definitions.fn_desks
    assert.equal(description, 'Desks\n\nwhere agents sit')
    assert.deepEqual(required, ['id', 'name'])
    assert.deepEqual(properties.id, {
      type: 'integer', format: 'int64', description: 'Note:\nThis is a Primary Key.<pk/>',
    })
    assert.deepEqual(properties.name, { type: 'string', format: 'character varying', default: 'desk', maxLength: 20 })
    assert.deepEqual(properties.mood, { type: 'string', format: 'public.fn_mood', enum: ['calm', 'cross'] })
    assert.deepEqual(properties.labels, { type: 'array', format: 'jsonb[]', items: {} })
    assert.deepEqual(properties.fields, { format: 'jsonb' })
    assert.equal(
      described.definitions.fn_agents.properties.desk_id.description,
      "Where\n\nNote:\nThis is a Foreign Key to `fn_desks.id`.<fk table='fn_desks' column='id'/>",
    )
    const path = described.paths['/fn_desks']
    assert.deepEqual(Object.keys(path).sort(), ['delete', 'get', 'patch', 'post'])
    for (const operation of Object.values(path)) {
      assert.deepEqual([operation.summary, operation.description], ['Desks', 'where agents sit'])
    }
  })

  test('of functions', () => {
    const { get, post } = described.paths['/rpc/fn_sum']
    assert.deepEqual(get.parameters, [
      { name: 'mood', in: 'query', required: true, type: 'string', format: 'fn_mood' },
      {
        name: 'numbers', in: 'query', required: false, type: 'array', collectionFormat: 'multi',
        items: { type: 'integer', format: 'int32' },
      },
    ])
    assert.deepEqual(post.parameters[0].schema.required, ['mood'])
    const ready = described.paths['/rpc/fn_ready'].get
    assert.deepEqual([ready.summary, ready.description], ['Ready or not', 'Says when.'])
    assert.ok(described.paths['/rpc/fn_take_numeral'] && !described.paths['/rpc/fn_take_number'])
  })
})
