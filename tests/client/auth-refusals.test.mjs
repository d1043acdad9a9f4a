// What the account service refuses, in the words and codes a login form tells apart, and what its discovery says.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { client, must, sql, start, token, user } from './support.mjs'

let stack
before(async () => {
  stack = await start()
})
after(() => stack.stop())

const PASSWORD = 'correct horse'
const VERSION = { 'X-Supabase-Api-Version': '2024-01-01' }
const address = () => `refused-${randomUUID()}@example.com`
const admin = () => client(stack, stack.serviceKey).auth.admin

/** A request by hand: status, code and message of what comes back. */
async function call(method, path, body, key = stack.anonKey) {
  const answer = await fetch(`${stack.url}/auth/v1${path}`, {
    method,
    headers: { apikey: stack.anonKey, authorization: `Bearer ${key}`, 'content-type': 'application/json', ...VERSION },
    body: body && JSON.stringify(body),
    redirect: 'manual',
  })
  const text = await answer.text()
  return { status: answer.status, location: answer.headers.get('location'), body: text && JSON.parse(text) }
}

async function refused(method, path, body, key) {
  const answer = await call(method, path, body, key)
  return [answer.status, answer.body.code, answer.body.message]
}

describe('a PKCE challenge', () => {
  const signUp = (more) => call('POST', '/signup', { email: address(), password: PASSWORD, ...more })
  const challenge = 'a'.repeat(43)

  test('is taken when it is whole', async () => {
    for (const code_challenge_method of ['s256', 'S256', 'plain']) {
      const answer = await signUp({ code_challenge: challenge, code_challenge_method })
      assert.equal(answer.status, 200, JSON.stringify(answer.body))
    }
  })

  test('is refused when half of it is missing or it has not the form of RFC 7636', async () => {
    for (const [more, message] of [
      [{ code_challenge: challenge }, /requires code_challenge_method and code_challenge/],
      [{ code_challenge_method: 's256' }, /requires code_challenge_method and code_challenge/],
      [{ code_challenge: 'a'.repeat(42), code_challenge_method: 's256' }, /between 43 and 128/],
      [{ code_challenge: 'a'.repeat(129), code_challenge_method: 's256' }, /between 43 and 128/],
      [{ code_challenge: 'ä'.repeat(43), code_challenge_method: 's256' }, /can only contain/],
      [{ code_challenge: challenge, code_challenge_method: 'md5' }, /unsupported code_challenge method/],
    ]) {
      const { status, body } = await signUp(more)
      assert.deepEqual([status, body.code], [400, 'validation_failed'])
      assert.match(body.message, message)
    }
  })
})

describe('a request that names a person twice or not at all', () => {
  test('signs nobody up or in', async () => {
    const both = { email: address(), phone: '+491701234567', password: PASSWORD }
    assert.deepEqual(await refused('POST', '/signup', both), [
      400,
      'validation_failed',
      'Only an email address or phone number should be provided on signup.',
    ])
    assert.deepEqual(await refused('POST', '/token?grant_type=password', both), [
      400,
      'validation_failed',
      'Only an email address or phone number should be provided on login.',
    ])
    assert.deepEqual(await sql(stack, 'select from auth.users where email = $1', [both.email]), [])
  })

  test('redeems no code', async () => {
    const verify = (body) => refused('POST', '/verify', body)
    const email = address()
    assert.deepEqual((await verify({ type: 'email', token_hash: 'x', email }))[2], 'Only the token_hash and type should be provided')
    assert.match((await verify({ type: 'email', token: '123456' }))[2], /a token its email address/)
    assert.deepEqual((await verify({ type: 'postcard', email, token: '123456' })).slice(0, 2), [400, 'validation_failed'])
    for (const type of ['sms', 'phone_change', 'email_change']) {
      assert.deepEqual((await verify({ type, email, token: '123456' })).slice(0, 2), [403, 'otp_expired'], type)
    }
  })

  test('a link without a purpose leads home with the reason', async () => {
    const { status, location } = await call('GET', '/verify?token=abc&type=postcard')
    assert.equal(status, 303)
    const said = new URLSearchParams(new URL(location).hash.slice(1))
    assert.deepEqual([said.get('error'), said.get('error_code')], ['invalid_request', 'validation_failed'])
  })
})

describe('a token', () => {
  const mine = (claims) => refused('GET', '/user', undefined, token(stack, claims))

  test('before its time, or of nobody, shows no account', async () => {
    const me = await user(stack)
    const now = Math.floor(Date.now() / 1000)
    assert.equal((await call('GET', '/user', undefined, token(stack, { sub: me.id, aud: 'authenticated', role: 'authenticated' }))).status, 200)
    const early = await mine({ sub: me.id, aud: 'authenticated', role: 'authenticated', nbf: now + 300 })
    assert.deepEqual(early.slice(0, 2), [403, 'bad_jwt'])
    assert.match(early[2], /not valid yet/)
    const late = await mine({ sub: me.id, aud: 'authenticated', role: 'authenticated', exp: now - 300 })
    assert.deepEqual(late.slice(0, 2), [403, 'bad_jwt'])
    assert.deepEqual((await mine({ sub: randomUUID(), aud: 'authenticated', role: 'authenticated' })).slice(0, 2), [403, 'user_not_found'])
    const nobodys = await mine({ sub: me.id, aud: 'authenticated', role: 'authenticated', session_id: randomUUID() })
    assert.deepEqual(nobodys.slice(0, 2), [403, 'session_not_found'])
  })
})

describe('an account with a second factor, or of a company', () => {
  test('is changed with the second factor alone', async () => {
    const me = await user(stack)
    await sql(
      stack,
      `insert into auth.mfa_factors (id, user_id, factor_type, status, secret, created_at, updated_at)
       values (gen_random_uuid(), $1, 'totp', 'verified', 's', now(), now())`,
      [me.id],
    )
    const weak = await me.client.auth.updateUser({ password: 'another horse' })
    assert.deepEqual([weak.error?.status, weak.error?.code], [401, 'insufficient_aal'])
    const session_id = JSON.parse(Buffer.from(me.token.split('.')[1], 'base64url')).session_id
    const strong = token(stack, { sub: me.id, aud: 'authenticated', role: 'authenticated', session_id, aal: 'aal2' })
    assert.equal((await call('PUT', '/user', { password: 'another horse' }, strong)).status, 200)
    must(await client(stack).auth.signInWithPassword({ email: me.email, password: 'another horse' }))
    const { factors } = must(await admin().mfa.listFactors({ userId: me.id }))
    assert.deepEqual(factors.map(({ factor_type, status }) => [factor_type, status]), [['totp', 'verified']])
    assert.ok(!JSON.stringify(factors).includes('secret'))
  })

  test('keeps the address its company gave it', async () => {
    const me = await user(stack)
    await sql(stack, 'update auth.users set is_sso_user = true where id = $1', [me.id])
    const { error } = await me.client.auth.updateUser({ email: address() })
    assert.deepEqual([error?.status, error?.code], [422, 'user_sso_managed'])
  })
})

describe('what is somewhere else', () => {
  test('is answered at once', async () => {
    const me = await user(stack)
    const enrolled = await me.client.auth.mfa.enroll({ factorType: 'totp' })
    assert.deepEqual([enrolled.error?.status, enrolled.error?.code], [422, 'feature_disabled'])
    const linked = await me.client.auth.linkIdentity({ provider: 'github', options: { skipBrowserRedirect: true } })
    assert.deepEqual([linked.error?.status, linked.error?.code], [404, 'manual_linking_disabled'])
    assert.deepEqual((await refused('GET', '/passkeys/x')).slice(0, 2), [404, 'passkey_disabled'])
    assert.deepEqual((await refused('POST', '/oauth/token')).slice(0, 2), [404, 'feature_disabled'])
    assert.deepEqual((await refused('POST', '/token?grant_type=pkce', { auth_code: 'x' })).slice(0, 2), [404, 'flow_state_not_found'])
  })
})

describe('discovery', () => {
  test('tells where tokens come from and how they are signed', async () => {
    const { body } = await call('GET', '/.well-known/openid-configuration')
    const { iss } = JSON.parse(Buffer.from((await user(stack)).token.split('.')[1], 'base64url'))
    assert.equal(body.issuer, iss)
    assert.equal(body.jwks_uri, `${iss}/.well-known/jwks.json`)
    assert.deepEqual(body.id_token_signing_alg_values_supported, ['HS256'])
  })
})

describe('administration', () => {
  test('takes one secret for a user, and pages that are numbers', async () => {
    const email = address()
    const password_hash = '$2a$10$abcdefghijklmnopqrstuuWb4VhZyR7d2tBCQhlHgC8ZBw6yBqDPe'
    const twice = await admin().createUser({ email, password: PASSWORD, password_hash })
    assert.deepEqual([twice.error?.status, twice.error?.code], [400, 'validation_failed'])
    const argon = await admin().createUser({ email, password_hash: '$argon2id$v=19$x' })
    assert.match(argon.error?.message, /bcrypt is supported/)
    assert.deepEqual(await sql(stack, 'select from auth.users where email = $1', [email]), [])
    assert.equal((await call('GET', '/admin/users?page=0', undefined, stack.serviceKey)).status, 200)
    assert.deepEqual((await refused('GET', '/admin/users?page=many', undefined, stack.serviceKey)).slice(0, 2), [400, 'validation_failed'])
  })

  test('makes a link that brings its password and new names', async () => {
    const email = address()
    const weak = await admin().generateLink({ type: 'signup', email, password: 'short' })
    assert.deepEqual([weak.error?.status, weak.error?.code], [422, 'weak_password'])
    must(await admin().generateLink({ type: 'signup', email, password: PASSWORD, options: { data: { full_name: 'Eve' } } }))
    const { properties } = must(
      await admin().generateLink({ type: 'signup', email, password: 'other words', options: { data: { nick: 'E' } } }),
    )
    const { user: found } = must(
      await client(stack).auth.verifyOtp({ token_hash: properties.hashed_token, type: 'signup' }),
    )
    assert.deepEqual([found.user_metadata.full_name, found.user_metadata.nick], ['Eve', 'E'])
    must(await client(stack).auth.signInWithPassword({ email, password: PASSWORD }))
    const changed = await client(stack).auth.signInWithPassword({ email, password: 'other words' })
    assert.equal(changed.error?.code, 'invalid_credentials', 'a second link changes no password')
  })
})
