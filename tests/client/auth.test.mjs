// Users and sessions, as the published supabase-js sees them.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { client, must, sql, start, token } from './support.mjs'

let stack
before(async () => {
  stack = await start()
})
after(() => stack.stop())

const PASSWORD = 'correct horse'
const VERSION = { 'X-Supabase-Api-Version': '2024-01-01' }

const address = () => `auth-${randomUUID()}@example.com`
const admin = () => client(stack, stack.serviceKey).auth.admin

/** Somebody new, signed up by himself and in. */
async function signedUp(data) {
  const email = address()
  const made = client(stack)
  const { user, session } = must(await made.auth.signUp({ email, password: PASSWORD, options: { data } }))
  return { client: made, email, user, session, id: user.id }
}

/** The same person on another device. */
async function elsewhere({ email }) {
  const made = client(stack)
  const { session } = must(await made.auth.signInWithPassword({ email, password: PASSWORD }))
  return { client: made, session }
}

/** A request by hand; `key` is the bearer. */
async function call(method, path, { key = stack.anonKey, body, headers = {} } = {}) {
  const response = await fetch(`${stack.url}/auth/v1${path}`, {
    method,
    headers: {
      // a new-style key comes as both, as supabase-js sends it
      apikey: key?.startsWith('sb_') ? key : stack.anonKey,
      ...(key && { Authorization: `Bearer ${key}` }),
      ...headers,
    },
    body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) }
}

function refused({ data, error }, status, code) {
  assert.ok(error, `expected ${code}, got ${JSON.stringify(data)}`)
  assert.deepEqual([error.status, error.code], [status, code], error.message)
}

const claims = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'))
const refresh = (refresh_token) => call('POST', '/token?grant_type=refresh_token', { body: { refresh_token } })

describe('sign-up', () => {
  test('gives a session and the user as he is', async () => {
    const { email, user, session } = await signedUp({ full_name: 'Ann', sub: 'somebody else' })
    assert.equal(user.email, email)
    assert.equal(user.role, 'authenticated')
    assert.equal(user.phone, '')
    assert.equal(user.is_anonymous, false)
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email'] })
    assert.deepEqual(user.user_metadata, {
      full_name: 'Ann',
      sub: user.id,
      email,
      email_verified: true,
      phone_verified: false,
    })
    assert.equal(user.confirmed_at, user.email_confirmed_at)
    assert.match(user.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/)
    const [identity] = user.identities
    assert.deepEqual([identity.provider, identity.id, identity.email], ['email', user.id, email])
    assert.equal(identity.identity_data.full_name, 'Ann')
    assert.equal(identity.identity_data.sub, user.id)
    for (const hidden of ['encrypted_password', 'is_sso_user', 'banned', 'banned_until', 'new_email', 'factors']) {
      assert.ok(!(hidden in user), hidden)
    }
    assert.equal(session.token_type, 'bearer')
    assert.equal(session.expires_in, 3600)
    assert.match(session.refresh_token, /^[a-z0-9]{12}$/)
  })

  test('signs a token with the claims that policies read', async () => {
    const { email, user, session } = await signedUp()
    const { iat, session_id, amr, ...rest } = claims(session.access_token)
    assert.deepEqual(rest, {
      iss: `${stack.url}/auth/v1`,
      sub: user.id,
      aud: 'authenticated',
      exp: iat + 3600,
      email,
      phone: '',
      app_metadata: user.app_metadata,
      user_metadata: user.user_metadata,
      role: 'authenticated',
      aal: 'aal1',
      is_anonymous: false,
    })
    assert.equal(session.expires_at, rest.exp)
    assert.match(session_id, /^[0-9a-f-]{36}$/)
    assert.deepEqual(amr.map(({ method }) => method), ['password'])
    assert.ok(Math.abs(amr[0].timestamp - iat) < 60)
    const { data } = await client(stack).auth.getClaims(session.access_token)
    assert.equal(data.claims.sub, user.id)
  })

  test('refuses an address that is taken, however it is written', async () => {
    const { email } = await signedUp()
    for (const again of [email, email.toUpperCase()]) {
      refused(await client(stack).auth.signUp({ email: again, password: PASSWORD }), 422, 'user_already_exists')
    }
  })

  test('lets one of many at once have the address', async () => {
    const email = address()
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => client(stack).auth.signUp({ email, password: PASSWORD })),
    )
    assert.equal(answers.filter(({ error }) => !error).length, 1)
    for (const answer of answers.filter(({ error }) => error)) refused(answer, 422, 'user_already_exists')
  })

  test('gives nobody a session for an address that somebody else has not confirmed yet', async () => {
    const email = address()
    must(await admin().createUser({ email, password: PASSWORD }))
    refused(await client(stack).auth.signUp({ email, password: 'of a thief' }), 422, 'user_already_exists')
  })

  test('wants an address and a password that can be kept', async () => {
    const { auth } = client(stack)
    refused(await auth.signUp({ email: 'nobody', password: PASSWORD }), 400, 'validation_failed')
    refused(await auth.signUp({ email: `${'a'.repeat(251)}@b.co`, password: PASSWORD }), 400, 'validation_failed')
    refused(await auth.signUp({ email: address(), password: '' }), 400, 'validation_failed')
    refused(await auth.signUp({ email: address(), password: 'x'.repeat(73) }), 400, 'validation_failed')
    refused(await auth.signUp({ email: address(), password: 'with a nul\0' }), 400, 'validation_failed')
    refused(await auth.signUp({ phone: '+491511234567', password: PASSWORD }), 400, 'phone_provider_disabled')
    refused(
      await auth.signUp({ email: address(), password: PASSWORD, options: { data: { name: 'nul\0' } } }),
      400,
      'validation_failed',
    )
    const weak = await auth.signUp({ email: address(), password: 'short' })
    refused(weak, 422, 'weak_password')
    assert.deepEqual(weak.error.reasons, ['length'])
    must(await auth.signUp({ email: address(), password: 'x'.repeat(72) }))
  })
})

describe('anonymous sign-in', () => {
  test('gives a user without an address, who may get one later', async () => {
    const made = client(stack)
    const { user, session } = must(await made.auth.signInAnonymously({ options: { data: { page: '/pricing' } } }))
    assert.deepEqual(
      [user.is_anonymous, user.email, user.phone, user.identities, user.app_metadata, user.user_metadata],
      [true, '', '', [], {}, { page: '/pricing' }],
    )
    assert.deepEqual(
      [claims(session.access_token).is_anonymous, claims(session.access_token).amr[0].method],
      [true, 'anonymous'],
    )
    const early = await made.auth.updateUser({ password: PASSWORD })
    refused(early, 422, 'validation_failed')

    const email = address()
    const { user: known } = must(await made.auth.updateUser({ email, password: PASSWORD }))
    assert.deepEqual([known.id, known.is_anonymous, known.email], [user.id, false, email])
    assert.deepEqual(known.app_metadata, { provider: 'email', providers: ['email'] })
    assert.equal(known.user_metadata.page, '/pricing')
    assert.equal(known.identities[0].email, email)
    const { user: again } = must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
    assert.equal(again.id, user.id)
  })
})

describe('password sign-in', () => {
  test('tells neither an unknown address from a wrong password nor from an account without one', async () => {
    const { email } = await signedUp()
    const { user } = must(await admin().createUser({ email: address(), email_confirm: true }))
    const answers = []
    for (const who of [email, address(), user.email]) {
      const answer = await client(stack).auth.signInWithPassword({ email: who, password: 'wrong password' })
      refused(answer, 400, 'invalid_credentials')
      answers.push(answer.error.message)
    }
    assert.equal(new Set(answers).size, 1)
    refused(await client(stack).auth.signInWithPassword({ email, password: '' }), 400, 'invalid_credentials')
  })

  test('takes hashes that seeds and imports bring', async () => {
    const email = address()
    const { user } = must(await admin().createUser({ email, password: 'another one', email_confirm: true }))
    await sql(
      stack,
      `update auth.users set encrypted_password = extensions.crypt($2, extensions.gen_salt('bf')) where id = $1`,
      [user.id, PASSWORD],
    )
    must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
  })

  test('says so where the password would be too weak today', async () => {
    const { user } = must(await admin().createUser({ email: address(), email_confirm: true }))
    await sql(
      stack,
      `update auth.users set encrypted_password = extensions.crypt('abc', extensions.gen_salt('bf', 4)) where id = $1`,
      [user.id],
    )
    const data = must(await client(stack).auth.signInWithPassword({ email: user.email, password: 'abc' }))
    assert.deepEqual(data.weakPassword.reasons, ['length'])
  })

  test('waits for the address to be confirmed', async () => {
    const email = address()
    const { user } = must(await admin().createUser({ email, password: PASSWORD }))
    refused(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }), 400, 'email_not_confirmed')
    must(await admin().updateUserById(user.id, { email_confirm: true }))
    const data = must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
    assert.equal(data.user.user_metadata.email_verified, true)
  })

  test('refuses what is no sign-in', async () => {
    const grant = (type, body) => call('POST', `/token?grant_type=${type}`, { body, headers: VERSION })
    for (const [type, body, code] of [
      ['password', {}, 'validation_failed'],
      ['password', { phone: '+491511234567', password: PASSWORD }, 'phone_provider_disabled'],
      ['pkce', { auth_code: randomUUID(), code_verifier: 'x'.repeat(43) }, 'flow_state_not_found'],
      ['saml', {}, 'invalid_credentials'],
      ['', {}, 'invalid_credentials'],
    ]) {
      assert.equal((await grant(type, body)).body.code, code, type)
    }
  })
})

describe('refresh', () => {
  test('rotates: a new refresh token and a token of the same session', async () => {
    const { client: made, session, id } = await signedUp()
    const { session: next } = must(await made.auth.refreshSession())
    assert.notEqual(next.refresh_token, session.refresh_token)
    assert.equal(next.user.id, id)
    assert.equal(claims(next.access_token).session_id, claims(session.access_token).session_id)
    const restored = client(stack)
    must(await restored.auth.setSession(next))
    assert.equal(must(await restored.auth.getUser()).user.id, id)
    const old = { access_token: token(stack, { sub: id, exp: 1 }), refresh_token: next.refresh_token }
    assert.equal(must(await client(stack).auth.setSession(old)).user.id, id)
  })

  test('gives tabs that come at once tokens of the one family', async () => {
    const { session, id } = await signedUp()
    const answers = await Promise.all(Array.from({ length: 12 }, () => refresh(session.refresh_token)))
    for (const { status, body } of answers) assert.equal(status, 200, JSON.stringify(body))
    assert.equal(new Set(answers.map(({ body }) => body.refresh_token)).size, 1)
    const [{ count }] = await sql(
      stack,
      'select count(*)::int from auth.refresh_tokens where user_id = $1 and not revoked',
      [id],
    )
    assert.equal(count, 1)
  })

  test('repeats an answer that was lost, at any time', async () => {
    const { session, id } = await signedUp()
    const { body: first } = await refresh(session.refresh_token)
    await longAgo(id)
    const { body: again } = await refresh(session.refresh_token)
    assert.equal(again.refresh_token, first.refresh_token)
  })

  test('takes a spent token within the reuse interval, refuses it afterwards, and ends its family', async () => {
    const { session, id } = await signedUp()
    const { body: second } = await refresh(session.refresh_token)
    const { body: third } = await refresh(second.refresh_token)
    const { status, body: branch } = await refresh(session.refresh_token)
    assert.equal(status, 200)
    assert.ok(![session, second, third].some((each) => each.refresh_token === branch.refresh_token))

    await longAgo(id)
    refused(await client(stack).auth.refreshSession(second), 400, 'refresh_token_already_used')
    // neither of the active ones works any more
    for (const { refresh_token } of [third, branch]) {
      await longAgo(id)
      refused(await client(stack).auth.refreshSession({ refresh_token }), 400, 'refresh_token_already_used')
    }
    // the session itself stays until its token ends or somebody signs out
    must(await client(stack).auth.getUser(third.access_token))
  })

  test('refuses what is no refresh token', async () => {
    const code = async (body) => (await refresh(body)).body.error_code
    assert.equal(await code('abcdefghijkl'), 'refresh_token_not_found')
    assert.equal(await code('short'), 'validation_failed')
    assert.equal(await code("' or true --"), 'validation_failed')
    assert.equal((await refresh('')).body.error, 'invalid_request')
    refused(await client(stack).auth.refreshSession({ refresh_token: 'abcdefghijkl' }), 400, 'refresh_token_not_found')
  })

  test('ends with the session and with a ban', async () => {
    const { session, id } = await signedUp()
    await sql(stack, `update auth.sessions set not_after = now() - interval '1 second' where user_id = $1`, [id])
    refused(await client(stack).auth.refreshSession(session), 400, 'session_expired')
    const other = await signedUp()
    must(await admin().updateUserById(other.id, { ban_duration: '1h' }))
    refused(await client(stack).auth.refreshSession(other.session), 400, 'user_banned')
  })

  /** Every token of a user was spent a minute ago. */
  const longAgo = (id) =>
    sql(stack, `update auth.refresh_tokens set updated_at = updated_at - interval '1 minute' where user_id = $1`, [id])
})

describe('one’s own account', () => {
  test('is shown to its owner alone', async () => {
    const { client: made, id } = await signedUp()
    assert.equal(must(await made.auth.getUser()).user.id, id)
    for (const [headers, status, code] of [
      [{ key: null }, 401, 'no_authorization'],
      [{ key: 'a.b.c' }, 403, 'bad_jwt'],
      [{ key: stack.anonKey }, 403, 'bad_jwt'],
      [{ key: token(stack, { sub: id, aud: 'authenticated', exp: 1 }) }, 403, 'bad_jwt'],
      [{ key: token({ jwtSecret: 'of somebody else who has none of ours' }, { sub: id }) }, 403, 'bad_jwt'],
      [{ key: token(stack, { sub: 'me', aud: 'authenticated' }) }, 400, 'bad_jwt'],
      [{ key: token(stack, { sub: randomUUID(), aud: 'authenticated' }) }, 403, 'user_not_found'],
      [{ key: token(stack, { sub: id, aud: 'others' }), headers: { 'X-JWT-AUD': 'authenticated' } }, 400, 'unexpected_audience'],
    ]) {
      const answer = await call('GET', '/user', { ...headers, headers: { ...VERSION, ...headers.headers } })
      assert.deepEqual([answer.status, answer.body.code], [status, code])
    }
    assert.equal((await call('GET', '/user', { key: token(stack, { sub: id, aud: 'authenticated' }) })).body.id, id)
  })

  test('takes metadata key by key', async () => {
    const { client: made } = await signedUp({ full_name: 'Ann', seat: { row: 1 } })
    const { user } = must(await made.auth.updateUser({ data: { full_name: null, seat: { side: 'left' }, plan: 'pro' } }))
    assert.ok(!('full_name' in user.user_metadata))
    assert.deepEqual(user.user_metadata.seat, { side: 'left' })
    assert.equal(user.user_metadata.plan, 'pro')
    const { session } = must(await made.auth.refreshSession())
    assert.equal(claims(session.access_token).user_metadata.plan, 'pro')
    const key = session.access_token
    const answer = await call('PUT', '/user', { key, body: { app_metadata: { role: 'admin' } }, headers: VERSION })
    assert.deepEqual([answer.status, answer.body.code], [403, 'not_admin'])
    assert.equal((await call('PUT', '/user', { key, body: { data: [1] } })).body.error_code, 'bad_json')
  })

  test('loses no key when changed from two sides at once', async () => {
    const { client: made } = await signedUp()
    const keys = Array.from({ length: 10 }, (_, index) => `key${index}`)
    await Promise.all(keys.map(async (key) => must(await made.auth.updateUser({ data: { [key]: true } }))))
    const { user } = must(await made.auth.getUser())
    assert.deepEqual(keys.filter((key) => user.user_metadata[key] !== true), [])
  })

  test('changes its password and ends every other session', async () => {
    const me = await signedUp()
    const other = await elsewhere(me)
    refused(await me.client.auth.updateUser({ password: PASSWORD }), 422, 'same_password')
    refused(await me.client.auth.updateUser({ password: 'short' }), 422, 'weak_password')
    refused(await me.client.auth.updateUser({ password: '' }), 422, 'weak_password')
    refused(
      await me.client.auth.updateUser({ password: 'battery staple', current_password: 'wrong' }),
      400,
      'current_password_invalid',
    )
    must(await me.client.auth.updateUser({ password: 'battery staple', current_password: PASSWORD }))
    must(await me.client.auth.getUser())
    const gone = await call('GET', '/user', { key: other.session.access_token, headers: VERSION })
    assert.deepEqual([gone.status, gone.body.code], [403, 'session_not_found'])
    const { email } = me
    refused(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }), 400, 'invalid_credentials')
    must(await client(stack).auth.signInWithPassword({ email, password: 'battery staple' }))
  })

  test('changes its address, unless that is taken', async () => {
    const me = await signedUp()
    const other = await signedUp()
    refused(await me.client.auth.updateUser({ email: other.email.toUpperCase() }), 422, 'email_exists')
    refused(await me.client.auth.updateUser({ email: 'nobody' }), 400, 'validation_failed')
    const email = address()
    const { user } = must(await me.client.auth.updateUser({ email }))
    assert.deepEqual([user.email, user.identities[0].email, user.user_metadata.email], [email, email, email])
    must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
    refused(
      await client(stack).auth.signInWithPassword({ email: me.email, password: PASSWORD }),
      400,
      'invalid_credentials',
    )
    refused(await me.client.auth.updateUser({ phone: '+491511234567' }), 422, 'phone_provider_disabled')
  })
})

describe('sign-out', () => {
  const alive = async ({ session }) => (await call('GET', '/user', { key: session.access_token })).status === 200

  for (const [scope, left] of [
    ['local', [false, true, true]],
    ['others', [true, false, false]],
    ['global', [false, false, false]],
  ]) {
    test(`${scope} ends the right sessions at once`, async () => {
      const me = await signedUp()
      const devices = [me, await elsewhere(me), await elsewhere(me)]
      must({ data: null, ...(await me.client.auth.signOut({ scope })) })
      assert.deepEqual(await Promise.all(devices.map(alive)), left)
      for (const [index, device] of devices.entries()) {
        assert.equal((await refresh(device.session.refresh_token)).status, left[index] ? 200 : 400)
      }
    })
  }

  test('tells supabase-js that the session is gone', async () => {
    const me = await signedUp()
    must({ data: null, ...(await admin().signOut(me.session.access_token)) })
    const { error } = await me.client.auth.getUser()
    assert.equal(error.name, 'AuthSessionMissingError')
  })

  test('refuses a scope there is not', async () => {
    const { session } = await signedUp()
    const answer = await call('POST', '/logout?scope=everywhere', { key: session.access_token })
    assert.deepEqual([answer.status, answer.body.error_code], [400, 'validation_failed'])
  })
})

describe('administration', () => {
  test('is for the service key alone', async () => {
    const { session, id } = await signedUp()
    const routes = [
      ['GET', '/admin/users'],
      ['POST', '/admin/users'],
      ['GET', `/admin/users/${id}`],
      ['PUT', `/admin/users/${id}`],
      ['DELETE', `/admin/users/${id}`],
      ['GET', `/admin/users/${id}/factors`],
      ['POST', '/admin/generate_link'],
    ]
    const forged = token({ jwtSecret: 'of somebody else who has none of ours' }, { role: 'service_role' })
    for (const [method, path] of routes) {
      for (const [key, status, code] of [
        [stack.anonKey, 403, 'not_admin'],
        [session.access_token, 403, 'not_admin'],
        [token(stack, { role: 'postgres' }), 403, 'not_admin'],
        [stack.publishableKey, 403, 'not_admin'],
        [forged, 403, 'bad_jwt'],
        [token(stack, { role: 'service_role', exp: 1 }), 403, 'bad_jwt'],
        [null, 401, 'no_authorization'],
      ]) {
        const answer = await call(method, path, { key, body: method === 'GET' ? undefined : {}, headers: VERSION })
        assert.deepEqual([answer.status, answer.body.code], [status, code], `${method} ${path}`)
      }
    }
    must(await client(stack, stack.secretKey).auth.admin.getUserById(id))
  })

  test('of a person ends with the person’s session', async () => {
    const email = address()
    must(await admin().createUser({ email, password: PASSWORD, email_confirm: true, role: 'service_role' }))
    const made = client(stack)
    const { session } = must(await made.auth.signInWithPassword({ email, password: PASSWORD }))
    const key = session.access_token
    assert.equal((await call('GET', '/admin/users', { key })).status, 200)
    must({ data: null, ...(await made.auth.signOut()) })
    const answer = await call('GET', '/admin/users', { key })
    assert.deepEqual([answer.status, answer.body.error_code], [403, 'session_expired'])
  })

  test('creates users as they are described', async () => {
    const id = randomUUID()
    const email = address()
    const phone = `49${Date.now()}`.slice(0, 15)
    const { user } = must(
      await admin().createUser({
        id,
        email: email.toUpperCase(),
        phone: `+${phone}`,
        password: PASSWORD,
        email_confirm: true,
        user_metadata: { full_name: 'Bo' },
        app_metadata: { tenant: 7 },
      }),
    )
    assert.deepEqual([user.id, user.email, user.phone, user.phone_confirmed_at], [id, email, phone, undefined])
    assert.deepEqual(user.user_metadata, { full_name: 'Bo', email_verified: true })
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email', 'phone'], tenant: 7 })
    assert.deepEqual(user.identities.map(({ provider }) => provider), ['email', 'phone'])
    const { session } = must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
    assert.equal(claims(session.access_token).app_metadata.tenant, 7)

    refused(await admin().createUser({ email }), 422, 'email_exists')
    refused(await admin().createUser({ phone }), 422, 'phone_exists')
    refused(await admin().createUser({ email: address(), id }), 422, 'validation_failed')
    refused(await admin().createUser({ user_metadata: {} }), 400, 'validation_failed')
    refused(await admin().createUser({ email: address(), id: 'mine' }), 400, 'validation_failed')
    refused(await admin().createUser({ email: address(), ban_duration: 'a while' }), 400, 'validation_failed')
    refused(await admin().createUser({ email: address(), password_hash: 'plain' }), 400, 'validation_failed')
    refused(await admin().createUser({ email: address(), role: 'x'.repeat(300) }), 400, 'validation_failed')
  })

  test('changes users', async () => {
    const me = await signedUp({ full_name: 'Cy' })
    const email = address()
    const { user } = must(
      await admin().updateUserById(me.id, {
        email,
        role: 'authenticated',
        password: 'battery staple',
        user_metadata: { full_name: null, plan: 'pro' },
        app_metadata: { tenant: 7 },
      }),
    )
    assert.deepEqual([user.email, user.identities[0].email], [email, email])
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email'], tenant: 7 })
    assert.deepEqual([user.user_metadata.plan, 'full_name' in user.user_metadata], ['pro', false])
    // the password is another: whoever was signed in no longer is
    assert.equal((await call('GET', '/user', { key: me.session.access_token })).body.error_code, 'session_not_found')
    must(await client(stack).auth.signInWithPassword({ email, password: 'battery staple' }))
    const other = await signedUp()
    refused(await admin().updateUserById(me.id, { email: other.email }), 422, 'email_exists')
    refused(await admin().updateUserById(randomUUID(), {}), 404, 'user_not_found')
  })

  test('bans and pardons', async () => {
    const me = await signedUp()
    const { user } = must(await admin().updateUserById(me.id, { ban_duration: '876000h' }))
    assert.ok(Date.parse(user.banned_until) > Date.now())
    refused(await me.client.auth.getUser(), 403, 'user_banned')
    const again = () => client(stack).auth.signInWithPassword({ email: me.email, password: PASSWORD })
    refused(await again(), 400, 'user_banned')
    const { user: free } = must(await admin().updateUserById(me.id, { ban_duration: 'none' }))
    assert.ok(!('banned_until' in free))
    must(await again())
  })

  test('lists users page by page', async () => {
    const mark = randomUUID()
    for (const name of ['a', 'b', 'c']) must(await admin().createUser({ email: `${name}-${mark}@example.com` }))
    const page = async (query) => {
      const answer = await call('GET', `/admin/users?${query}&filter=${mark.toUpperCase()}`, { key: stack.serviceKey })
      return { ...answer, names: answer.body.users?.map(({ email }) => email[0]) }
    }
    const first = await page('page=1&per_page=2')
    assert.deepEqual(first.names, ['c', 'b'])
    assert.equal(first.headers.get('x-total-count'), '3')
    assert.match(first.headers.get('link'), /^<[^>]+\?page=2&per_page=2[^>]*>; rel="next", <[^>]+\?page=2&[^>]*>; rel="last"$/)
    assert.deepEqual((await page('page=2&per_page=2')).names, ['a'])
    assert.deepEqual((await page('page=&per_page=&sort=created_at%20asc')).names, ['a', 'b', 'c'])
    for (const wrong of ['page=-1', 'page=x', 'per_page=0.5', 'per_page=999999', 'sort=email']) {
      const answer = await page(wrong)
      assert.deepEqual([answer.status, answer.body.error_code], [400, 'validation_failed'], wrong)
    }
    const listed = must(await admin().listUsers({ page: 1, perPage: 1 }))
    assert.deepEqual([listed.users.length, listed.aud, listed.nextPage], [1, 'authenticated', 2])
    assert.ok(listed.total >= 3)
  })

  test('deletes users with all that is theirs', async () => {
    const me = await signedUp()
    must(await admin().deleteUser(me.id))
    refused(await admin().getUserById(me.id), 404, 'user_not_found')
    refused(await me.client.auth.getUser(), 403, 'user_not_found')
    assert.equal((await refresh(me.session.refresh_token)).body.error_code, 'refresh_token_not_found')
    refused(await admin().deleteUser(me.id), 404, 'user_not_found')
    assert.equal((await call('DELETE', '/admin/users/me', { key: stack.serviceKey })).status, 404)
    must(await client(stack).auth.signUp({ email: me.email, password: PASSWORD }))
  })

  test('deletes softly: nobody recognises the row', async () => {
    const me = await signedUp({ full_name: 'Di' })
    must(await admin().deleteUser(me.id, true))
    const { user } = must(await admin().getUserById(me.id))
    assert.ok(user.deleted_at)
    assert.doesNotMatch(JSON.stringify(user), new RegExp(`Di"|${me.email}`))
    assert.equal((await call('GET', '/user', { key: me.session.access_token })).body.error_code, 'session_not_found')
    must(await admin().deleteUser(me.id, true))
    must(await client(stack).auth.signUp({ email: me.email, password: PASSWORD }))
  })
})

describe('links for a mail that somebody else sends', () => {
  const link = async (params) => must(await admin().generateLink(params))

  test('sign somebody new in, once', async () => {
    const email = address()
    const { user, properties } = await link({ type: 'magiclink', email, options: { data: { full_name: 'Ed' } } })
    assert.deepEqual([properties.verification_type, user.email, 'email_confirmed_at' in user], ['signup', email, false])
    assert.equal(user.user_metadata.full_name, 'Ed')
    const proof = { token_hash: properties.hashed_token, type: properties.verification_type }
    const data = must(await client(stack).auth.verifyOtp(proof))
    assert.equal(data.user.id, user.id)
    assert.ok(data.user.email_confirmed_at)
    assert.deepEqual(claims(data.session.access_token).amr.map(({ method }) => method), ['otp'])
    refused(await client(stack).auth.verifyOtp(proof), 403, 'otp_expired')
  })

  test('can be typed', async () => {
    const me = await signedUp()
    const { properties } = await link({ type: 'magiclink', email: me.email })
    const typed = (token, email = me.email) => client(stack).auth.verifyOtp({ email, token, type: 'email' })
    refused(await typed('0000000000'), 403, 'otp_expired')
    refused(await typed(properties.email_otp, address()), 403, 'otp_expired')
    const data = must(await typed(properties.email_otp, me.email.toUpperCase()))
    assert.equal(data.user.id, me.id)
    refused(await typed(properties.email_otp), 403, 'otp_expired')
  })

  test('are redeemed by one of many at once', async () => {
    const me = await signedUp()
    const { properties } = await link({ type: 'recovery', email: me.email })
    const proof = { token_hash: properties.hashed_token, type: 'recovery' }
    const answers = await Promise.all(Array.from({ length: 8 }, () => client(stack).auth.verifyOtp(proof)))
    assert.equal(answers.filter(({ error }) => !error).length, 1)
  })

  test('replace one another, and end with time and purpose', async () => {
    const me = await signedUp()
    const { properties: first } = await link({ type: 'recovery', email: me.email })
    const { properties: second } = await link({ type: 'recovery', email: me.email })
    const redeem = ({ hashed_token }, type) => client(stack).auth.verifyOtp({ token_hash: hashed_token, type })
    refused(await redeem(first, 'recovery'), 403, 'otp_expired')
    refused(await redeem(second, 'signup'), 403, 'otp_expired')
    await sql(stack, `update auth.users set recovery_sent_at = now() - interval '2 hours' where id = $1`, [me.id])
    refused(await redeem(second, 'recovery'), 403, 'otp_expired')
  })

  test('lead a browser home, with the tokens where no server sees them', async () => {
    const me = await signedUp()
    const follow = async (url) => {
      const response = await fetch(url, { redirect: 'manual' })
      assert.equal(response.status, 303)
      const target = new URL(response.headers.get('location'))
      return { target, said: new URLSearchParams(target.hash.slice(1)) }
    }
    const { properties } = await link({
      type: 'magiclink',
      email: me.email,
      options: { redirectTo: 'http://127.0.0.1:5173/welcome?from=mail' },
    })
    const { target, said } = await follow(properties.action_link)
    assert.equal(target.origin + target.pathname + target.search, 'http://127.0.0.1:5173/welcome?from=mail')
    assert.equal(must(await client(stack).auth.getUser(said.get('access_token'))).user.id, me.id)
    assert.equal((await refresh(said.get('refresh_token'))).status, 200)

    const { said: again } = await follow(properties.action_link)
    assert.deepEqual([again.get('error'), again.get('error_code')], ['access_denied', 'otp_expired'])

    const { properties: abroad } = await link({
      type: 'magiclink',
      email: me.email,
      options: { redirectTo: 'https://evil.example/' },
    })
    const changed = abroad.action_link.replace(/redirect_to=.*/, 'redirect_to=https://evil.example/')
    assert.equal((await follow(changed)).target.host, '127.0.0.1:3000')
  })

  test('are made only where they make sense', async () => {
    const me = await signedUp()
    refused(await admin().generateLink({ type: 'signup', email: me.email, password: PASSWORD }), 422, 'email_exists')
    refused(await admin().generateLink({ type: 'invite', email: me.email }), 422, 'email_exists')
    refused(await admin().generateLink({ type: 'recovery', email: address() }), 404, 'user_not_found')
    refused(await admin().generateLink({ type: 'signup', email: address() }), 400, 'validation_failed')
    refused(await admin().generateLink({ type: 'postcard', email: address() }), 400, 'validation_failed')
    const { user } = await link({ type: 'invite', email: address() })
    assert.ok(user.invited_at)
    const { user: banned, properties } = await link({ type: 'invite', email: address() })
    must(await admin().updateUserById(banned.id, { ban_duration: '1h' }))
    refused(await client(stack).auth.verifyOtp({ token_hash: properties.hashed_token, type: 'invite' }), 403, 'user_banned')
  })
})

describe('the wire', () => {
  test('says errors as the client’s version expects them', async () => {
    const body = { email: 'nobody', password: PASSWORD }
    const dated = await call('POST', '/signup', { body, headers: VERSION })
    assert.deepEqual(dated.body, {
      code: 'validation_failed',
      message: 'Unable to validate email address: invalid format',
    })
    assert.equal(dated.headers.get('x-supabase-api-version'), '2024-01-01')
    assert.equal(dated.headers.get('x-sb-error-code'), 'validation_failed')
    for (const version of [undefined, '2023-01-01', 'latest']) {
      const old = await call('POST', '/signup', { body, headers: version ? { 'X-Supabase-Api-Version': version } : {} })
      assert.deepEqual(old.body, {
        code: 400,
        error_code: 'validation_failed',
        msg: 'Unable to validate email address: invalid format',
      })
      assert.equal(old.headers.get('x-supabase-api-version'), null)
    }
  })

  test('refuses bodies it cannot read', async () => {
    for (const [body, status, code] of [
      ['', 400, 'bad_json'],
      ['{"email":', 400, 'bad_json'],
      ['[]', 400, 'bad_json'],
      ['{"email":5}', 400, 'bad_json'],
      [JSON.stringify({ data: { text: 'x'.repeat(1 << 20) } }), 413, 'request_entity_too_large'],
    ]) {
      const answer = await call('POST', '/signup', { body, headers: VERSION })
      assert.deepEqual([answer.status, answer.body.code], [status, code], body.slice(0, 20))
    }
  })

  test('says at once what this server has not', async () => {
    const { auth } = client(stack)
    refused(await auth.resetPasswordForEmail(address()), 422, 'feature_disabled')
    refused(await auth.signInWithOtp({ email: address() }), 422, 'feature_disabled')
    refused(await auth.signInWithSSO({ domain: 'example.com' }), 404, 'saml_provider_disabled')
    assert.equal((await call('GET', '/authorize?provider=github')).status, 400)
    assert.equal((await call('GET', '/nowhere')).status, 404)
    assert.equal((await call('DELETE', '/signup')).status, 405)
  })

  test('says what a login form may offer', async () => {
    const { body } = await call('GET', '/settings')
    assert.deepEqual(
      [body.external.email, body.external.anonymous_users, body.external.google, body.disable_signup],
      [true, true, false, false],
    )
    assert.equal((await call('GET', '/health')).body.name, 'GoTrue')
    assert.deepEqual((await call('GET', '/.well-known/jwks.json')).body, { keys: [] })
  })

  test('writes down who came and went', async () => {
    const me = await signedUp()
    must({ data: null, ...(await me.client.auth.signOut()) })
    const rows = await sql(
      stack,
      `select payload ->> 'action' as action from auth.audit_log_entries
       where payload ->> 'actor_id' = $1 order by created_at, 1`,
      [me.id],
    )
    assert.deepEqual(rows.map(({ action }) => action), ['login', 'user_signedup', 'logout'])
  })
})

describe('an instance with other settings', () => {
  let closed
  before(async () => {
    const args = ['--auth-signup', 'false', '--auth-token-lifetime', '60', '--auth-min-password-length', '10']
    closed = await start({ args: [...args, '--site-url', 'https://shop.example', '--redirect-url', 'app://chat/**'] })
  })
  after(() => closed?.stop())

  test('takes nobody in but by the service key', async () => {
    const { auth } = client(closed)
    refused(await auth.signUp({ email: address(), password: 'long enough' }), 422, 'signup_disabled')
    refused(await auth.signInAnonymously(), 422, 'signup_disabled')
    const { admin } = client(closed, closed.serviceKey).auth
    const email = address()
    refused(await admin.createUser({ email, password: 'too short' }), 422, 'weak_password')
    must(await admin.createUser({ email, password: 'long enough', email_confirm: true }))
    const { session } = must(await auth.signInWithPassword({ email, password: 'long enough' }))
    assert.equal(session.expires_in, 60)
    const leadsTo = async (redirectTo) =>
      must(await admin.generateLink({ type: 'magiclink', email, options: { redirectTo } })).properties.redirect_to
    assert.equal(await leadsTo('app://chat/42'), 'app://chat/42')
    assert.equal(await leadsTo('https://evil.example/'), 'https://shop.example/')
  })
})
