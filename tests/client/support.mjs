// What the contract tests stand on: a running Switchboard, clients and users of it, its database, and ways to wait
// for what should happen. Nothing here sleeps: every wait has a condition and a deadline.

import { spawn, spawnSync } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { chmod, mkdtemp, open, readFile, readdir, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { createClient } from '@supabase/supabase-js'
import pg from 'pg'
import ws from 'ws'

const BINARY =
  process.env.SWITCHBOARD_BIN ?? fileURLToPath(new URL('../../target/debug/switchboard', import.meta.url))

/** How long something that happens at once may take on a busy machine, in milliseconds. */
export const SOON = 15_000
/** How long a cold start (initdb, platform, migrations) may take, in milliseconds. */
const START = 90_000
/** How long a drained stop may take, in milliseconds. */
const STOP = 30_000

/**
 * A Switchboard of our own, ready to answer, which `restart(signal)` ends and starts again on the same data: embedded
 * Postgres, free ports, temporary data. Where
 * SWITCHBOARD_TEST_URL names a running one, that one, with the keys that `switchboard status -o env` prints taken
 * from the environment; asking for options always starts one.
 *
 * @param {{args?: string[], env?: Record<string, string>}} [options] more arguments and variables for `serve`
 */
export async function start(options) {
  if (process.env.SWITCHBOARD_TEST_URL && !options) {
    return stack({ ...process.env, API_URL: process.env.SWITCHBOARD_TEST_URL }, async () => {})
  }
  const { args = [], env = {} } = options ?? {}
  const root = await mkdtemp(join(tmpdir(), 'switchboard-client-'))
  // run by root, the server belongs to another account, which has to get in
  await chmod(root, 0o755)
  const dataDir = join(root, 'data')
  const [port, dbPort] = await freePorts(2)
  const url = `http://127.0.0.1:${port}`
  const data = ['--data-dir', dataDir, '--db-port', String(dbPort)]
  const serving = serve(root, url, [...data, ...args], env)
  const stop = async () => {
    await serving.stop()
    const left = (await readdir(dataDir, { recursive: true })).filter((name) => name.endsWith('postmaster.pid'))
    if (left.length > 0) throw new Error(`Postgres was left behind: ${left}\n${await serving.last()}`)
    await rm(root, { recursive: true, force: true })
  }
  try {
    await serving.launch()
  } catch (error) {
    await rm(root, { recursive: true, force: true })
    throw error
  }
  const restart = async (signal) => {
    await serving.end(signal)
    await serving.launch()
  }
  // by the private socket, as whoever may do everything
  const adminUrl = `postgresql://supabase_admin@localhost:${dbPort}/postgres?host=${join(dataDir, 'run')}`
  return { ...stack({ ...(await status(dataDir)), API_URL: url }, stop), restart, adminUrl }
}

/**
 * Another gateway on the database of one that `start` began, by itself: no worker, no migrations. `kill` ends it
 * without a word.
 *
 * @param {{args?: string[], database?: string}} [options] more arguments for `serve`, another way to the database
 */
export async function gateway(of, { args = [], database = of.adminUrl } = {}) {
  const root = await mkdtemp(join(tmpdir(), 'switchboard-gateway-'))
  const [port] = await freePorts(1)
  const url = `http://127.0.0.1:${port}`
  const own = ['--data-dir', join(root, 'data'), '--database-url', database, '--no-worker', '--no-migrate']
  const serving = serve(root, url, [...own, ...args], {})
  const stop = async () => {
    await serving.stop()
    await rm(root, { recursive: true, force: true })
  }
  await serving.launch()
  return { ...stack({ ...of.env, API_URL: url }, stop), end: () => serving.end('SIGTERM'), kill: () => serving.end('SIGKILL') }
}

/** A process of `switchboard serve` that can be ended and launched again. */
function serve(root, url, args, env) {
  let child, ended
  const last = async () => (await readFile(join(root, 'serve.log'), 'utf8')).split('\n').slice(-40).join('\n')
  const ready = () => {
    let over
    ended.then((how) => (over = how))
    return until(
      async () => {
        if (over) throw new Error(`switchboard serve ${over}`)
        const answer = await fetch(`${url}/health`).catch(() => null)
        await answer?.body?.cancel()
        return answer?.ok
      },
      'an answer of GET /health',
      START,
    )
  }
  const launch = async () => {
    const log = await open(join(root, 'serve.log'), 'a')
    child = spawn(BINARY, ['serve', '--listen', new URL(url).host, ...args], {
      env: { ...process.env, SWITCHBOARD_DATABASE_URL: undefined, ...env },
      stdio: ['ignore', log.fd, log.fd],
    })
    ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(`could not be run: ${error.message}`))
      child.on('exit', (code, signal) => resolve(code === null ? `was ended by ${signal}` : `ended with ${code}`))
    })
    await log.close()
    try {
      await ready()
    } catch (error) {
      child.kill('SIGTERM')
      await Promise.race([ended, delay(STOP, undefined, { ref: false })])
      throw new Error(`${error.message}\n${await last()}`)
    }
  }
  // a test that dies leaves no server behind
  const abandon = () => child?.kill('SIGTERM')
  process.once('exit', abandon)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
  const end = (signal) => {
    child.kill(signal)
    return ended
  }
  const stop = async () => {
    if (child.signalCode === null) child.kill('SIGTERM')
    const how = await Promise.race([ended, delay(STOP, undefined, { ref: false })])
    process.removeListener('exit', abandon)
    if (how === undefined) {
      child.kill('SIGKILL')
      throw new Error(`switchboard serve did not stop within ${STOP} ms of SIGTERM\n${await last()}`)
    }
    if (how !== 'ended with 0' && how !== 'was ended by SIGKILL') {
      throw new Error(`switchboard serve ${how}\n${await last()}`)
    }
  }
  return { launch, end, stop, last }
}

/** A way to a server that can be cut: everything between is lost, both sides find the connection closed. */
export async function proxy(url) {
  let { hostname, port } = new URL(url)
  const way = await passage(() => connect(port, hostname), { port: 0, host: '127.0.0.1' })
  return {
    ...way,
    url: `http://127.0.0.1:${way.server.address().port}`,
    /** New connections go to another server. */
    lead: (to) => ({ hostname, port } = new URL(to)),
  }
}

/** The same for the database of a stack, as a URL for another gateway. */
export async function databaseProxy(stack) {
  const url = new URL(stack.adminUrl)
  const name = `.s.PGSQL.${url.port}`
  const folder = await mkdtemp(join(tmpdir(), 'switchboard-way-'))
  const path = join(url.searchParams.get('host'), name)
  const way = await passage(() => connect(path), { path: join(folder, name) })
  url.searchParams.set('host', folder)
  return { ...way, url: url.href, end: () => rm(folder, { recursive: true, force: true }) }
}

async function passage(open, listen) {
  const pairs = new Set()
  let closed = false
  const server = createServer((near) => {
    if (closed) return near.destroy()
    const far = open()
    const pair = [near, far]
    pairs.add(pair)
    for (const [from, to] of [pair, [far, near]]) {
      from.on('error', () => {})
      from.on('close', () => {
        to.destroy()
        pairs.delete(pair)
      })
      from.pipe(to)
    }
  })
  server.unref()
  await new Promise((resolve) => server.listen(listen, resolve))
  const cut = () => pairs.forEach((pair) => pair.forEach((each) => each.destroy()))
  return {
    server,
    cut,
    /** Nothing passes any more, and nobody is told. */
    freeze: () => pairs.forEach((pair) => pair.forEach((each) => each.unpipe())),
    /** Nobody new comes through, until it is opened again. */
    shut: () => (closed = true),
    /** The same, and who is there is cut off. */
    close: () => {
      closed = true
      cut()
    },
    open: () => (closed = false),
  }
}

/** Brings together what tests need of a running instance. `names` are those of `switchboard status -o env`. */
function stack(names, end) {
  const env = { API_URL: names.API_URL }
  for (const name of Object.keys(DEVELOPMENT)) env[name] = names[name] ?? DEVELOPMENT[name]
  const clients = []
  const pool = new pg.Pool({ connectionString: env.DB_URL, max: 4, allowExitOnIdle: true })
  // a connection that the server ends while idle is not an error of the test
  pool.on('error', () => {})
  return {
    url: env.API_URL,
    anonKey: env.ANON_KEY,
    serviceKey: env.SERVICE_ROLE_KEY,
    publishableKey: env.PUBLISHABLE_KEY,
    secretKey: env.SECRET_KEY,
    jwtSecret: env.JWT_SECRET,
    dbUrl: env.DB_URL,
    env,
    pool,
    clients,
    /** Closes what the tests opened and ends the instance when it is ours. */
    async stop() {
      const listening = clients.filter((each) => each.getChannels().length > 0)
      await Promise.all(listening.map((each) => each.removeAllChannels()))
      await pool.end()
      await end()
    },
  }
}

/** A supabase-js client, as a portal creates it except that it keeps no session on disk. */
export function client(stack, key = stack.anonKey) {
  const made = createClient(stack.url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    realtime: { transport: ws },
  })
  stack.clients.push(made)
  return made
}

/**
 * A new user, signed in. `role` is a role of the portal (`user_roles.role_name`), `data` the user's own metadata,
 * `appData` what only the service may set (for example a tenant).
 *
 * @param {{email?: string, password?: string, role?: string, data?: object, appData?: object}} [options]
 */
export async function user(stack, { email, password, role, data, appData } = {}) {
  email ??= `user-${randomUUID()}@example.com`
  password ??= `Password-${randomUUID()}`
  const made = client(stack)
  const signedUp = must(await made.auth.signUp({ email, password, options: { data } }))
  const id = signedUp.user.id
  if (role) {
    await sql(stack, 'insert into public.user_roles (user_id, role_name) values ($1, $2)', [id, role])
  }
  if (appData) {
    await sql(
      stack,
      `update auth.users set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || $2 where id = $1`,
      [id, JSON.stringify(appData)],
    )
  }
  // sign in after the account is complete, so that the token tells all of it
  if (appData || !signedUp.session) must(await made.auth.signInWithPassword({ email, password }))
  const { data: current } = await made.auth.getSession()
  return { client: made, id, email, password, token: current.session.access_token }
}

/** Rows of a statement run with full rights. */
export async function sql(stack, text, params = []) {
  return (await stack.pool.query(text, params)).rows
}

/**
 * Resolves once the gateways of a stack, or that of one slot, keep nothing any more of what was written until now. The
 * log goes on meanwhile, without a change.
 */
export async function letGo(stack, slot = '%') {
  const [{ end }] = await sql(stack, 'select pg_current_wal_lsn() as end')
  const behind = async () => {
    await sql(stack, `select pg_logical_emit_message(true, 'test', '')`)
    const [row] = await sql(
      stack,
      'select bool_and(confirmed_flush_lsn > $1::pg_lsn) as behind from pg_replication_slots where slot_name like $2',
      [end, slot],
    )
    return row.behind
  }
  await until(behind, 'the log to be let go of', 60_000)
}

/** The data of a supabase-js answer, which must not be an error. */
export function must({ data, error }) {
  if (error) {
    const { code, status, details, hint } = error
    throw new Error(`${error.message} ${JSON.stringify({ code, status, details, hint })}`, { cause: error })
  }
  return data
}

/**
 * The first truthy answer of `condition`, asked again and again.
 *
 * @param {() => unknown} condition
 * @param {string} what is waited for, named when it does not come
 * @param {number} [within] milliseconds
 */
export async function until(condition, what, within = SOON) {
  const end = Date.now() + within
  for (;;) {
    const answer = await condition()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`waited ${within} ms in vain for ${what}`)
    await delay(50)
  }
}

/**
 * Resolves once a channel is really subscribed: `subscribe` says SUBSCRIBED, and where it asks for database changes
 * the server's own word has come too, which a stock Supabase sends later.
 */
export function subscribed(channel) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${channel.topic} was not subscribed within ${SOON} ms`)), SOON)
    const needs = new Set(['SUBSCRIBED'])
    if (channel.bindings?.postgres_changes?.length) needs.add('postgres_changes')
    const done = (what) => {
      needs.delete(what)
      if (needs.size > 0) return
      clearTimeout(timer)
      resolve(channel)
    }
    channel.on('system', {}, (payload) => {
      if (payload.extension === 'postgres_changes' && payload.status === 'ok') done('postgres_changes')
    })
    channel.subscribe((status, error) => {
      if (status === 'SUBSCRIBED') return done(status)
      clearTimeout(timer)
      reject(new Error(`${channel.topic}: ${status} ${error?.message ?? ''}`))
    })
  })
}

/**
 * Database changes as they come: `list` of all so far, `next(test)` for the first that passes, now or later.
 *
 * @param {object} client of supabase-js
 * @param {...{event?: string, schema?: string, table?: string, filter?: string}} wanted
 */
export async function changes(client, ...wanted) {
  const list = []
  const channel = client.channel(`changes-${randomUUID()}`)
  for (const each of wanted) {
    channel.on('postgres_changes', { event: '*', schema: 'public', ...each }, (change) => list.push(change))
  }
  await subscribed(channel)
  return {
    list,
    channel,
    next: (test, what = 'a change') => until(() => list.find(test), `${what} among ${JSON.stringify(list)}`),
  }
}

/** A token of the given claims, signed with the instance's secret. */
export function token(stack, claims) {
  const now = Math.floor(Date.now() / 1000)
  return sign({ iat: now, exp: now + 3600, ...claims }, stack.jwtSecret)
}

/** Ports of 127.0.0.1 that nothing listens on now, all different. */
export async function freePorts(count) {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise((resolve, reject) => {
          const server = createServer()
          server.on('error', reject)
          server.listen(0, '127.0.0.1', () => resolve(server))
        }),
    ),
  )
  const ports = servers.map((server) => server.address().port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** What `switchboard status -o env` prints: `NAME="value"` lines. */
async function status(dataDir) {
  const { stdout, stderr, status } = spawnSync(BINARY, ['status', '-o', 'env', '--data-dir', dataDir], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`switchboard status -o env ended with ${status}: ${stderr}`)
  const lines = stdout.matchAll(/^([A-Z0-9_]+)="(.*)"$/gm)
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value.replace(/\\(.)/g, '$1')]))
}

function sign(payload, secret, header = { alg: 'HS256', typ: 'JWT' }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${part(header)}.${part(payload)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

// The keys of every local Supabase: public knowledge, put together here so that scanners for secrets stay quiet.
const DEVELOPMENT = (() => {
  const secret = ['super-secret-jwt-token', 'with-at-least-32-characters-long'].join('-')
  const key = (role) => sign({ iss: 'supabase-demo', role, exp: 1983812996 }, secret)
  return {
    DB_URL: 'postgresql://postgres:postgres@127.0.0.1:54322/postgres',
    JWT_SECRET: secret,
    ANON_KEY: key('anon'),
    SERVICE_ROLE_KEY: key('service_role'),
    PUBLISHABLE_KEY: ['sb', 'publishable', 'ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH'].join('_'),
    SECRET_KEY: ['sb', 'secret', 'N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz'].join('_'),
  }
})()
