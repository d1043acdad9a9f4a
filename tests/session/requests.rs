//! REST under callers of all kinds at once: nobody is answered as somebody else, and what fails leaves nothing.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use switchboard::{
    db::Login,
    gateway::keys::{Keys, now},
};
use tokio::task::JoinSet;

use super::random;
use crate::support::{app::App, cluster::TestDatabase, until};

const SCHEMA: &str = "
    create table public.letters (
      tag text primary key,
      owner uuid not null default auth.uid(),
      pages integer not null default 1
    );
    alter table public.letters enable row level security;
    create policy own on public.letters using (owner = (select auth.uid()));
    grant select, insert on public.letters to authenticated;

    create function public.refuse_late() returns trigger language plpgsql as $$
      begin
        raise 'refused at the end' using errcode = '23000';
      end
    $$;
    create constraint trigger late after insert on public.letters deferrable initially deferred
      for each row when (new.pages = 13) execute function public.refuse_late();

    create function public.whoami(tag text) returns json stable language sql as $$
      select json_build_object('user', current_user, 'sub', auth.uid(), 'tag', tag, 'zone', current_setting('timezone'),
        'claims', current_setting('request.jwt.claims')::json,
        'owners', (select coalesce(json_agg(distinct owner), '[]') from public.letters))
    $$;
    create function public.refuse(tag text, way text) returns void language plpgsql as $$
      begin
        insert into public.letters (tag) values (tag);
        case way
          when 'divide' then perform 1 / (length(way) - 6);
          when 'cast' then perform way::integer;
          when 'raise' then raise 'no' using errcode = 'PT418';
          when 'rights' then execute 'select 1 from auth.users';
          else perform set_config('statement_timeout', '5ms', true); perform * from public.missing;
        end case;
      end
    $$;
    create function public.linger(tag text) returns void language plpgsql as $$
      begin
        insert into public.letters (tag) values (tag);
        perform pg_sleep(0.005);
      end
    $$;";

/// A caller with an address, a name and a token.
struct Caller {
    client: Client,
    url: String,
    number: u64,
    sub: Value,
    claims: Value,
    token: String,
}

impl Caller {
    fn new(app: &App, number: u64) -> Self {
        let sub = json!(format!("00000000-0000-4000-8000-{number:012}"));
        let claims = json!({ "role": "authenticated", "sub": sub, "number": number, "exp": now() + 3_600 });
        Self {
            client: Client::new(),
            url: format!("{}/rest/v1", app.url),
            number,
            sub,
            token: app.keys.sign(&claims).unwrap(),
            claims,
        }
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(format!("{}/{path}", self.url));
        request.bearer_auth(&self.token).json(body)
    }

    /// Everything that the database says of the caller is his own. Role and claims are set by every request; the zone
    /// only by those that ask for it, so it is there that a setting which outlives its request is seen.
    async fn is_himself(&self, abroad: bool, tag: &str) {
        let mut request = self.post("rpc/whoami", &json!({ "tag": tag }));
        if abroad {
            request = request.header("prefer", "timezone=America/Lima");
        }
        let mut seen: Value = request.send().await.unwrap().json().await.unwrap();
        let zone = seen.as_object_mut().unwrap().remove("zone");
        assert_eq!(zone == Some(json!("America/Lima")), abroad, "{zone:?}");
        let owners = seen["owners"].take();
        let own =
            json!({ "user": "authenticated", "sub": self.sub, "tag": tag, "claims": self.claims, "owners": null });
        assert_eq!(seen, own);
        assert!(owners == json!([]) || owners == json!([self.sub]), "{owners}");
        let letters = self.client.get(format!("{}/letters?select=owner&limit=3", self.url));
        let rows: Value = letters
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(
            rows.as_array().unwrap().iter().all(|row| row["owner"] == self.sub),
            "{rows}"
        );
    }

    /// Nobody in particular sees nobody's rows.
    async fn is_nobody(&self, tag: &str) {
        let request = self.client.post(format!("{}/rpc/whoami", self.url));
        let answer = request.json(&json!({ "tag": tag })).send().await.unwrap();
        let mut seen: Value = answer.json().await.unwrap();
        assert_ne!(
            seen.as_object_mut().unwrap().remove("zone"),
            Some(json!("America/Lima"))
        );
        let own = json!({ "user": "anon", "sub": null, "tag": tag, "claims": { "role": "anon" }, "owners": [] });
        assert_eq!(seen, own);
    }

    async fn writes(&self, tag: &str) {
        let request = self.post("letters", &json!({ "tag": tag }));
        let answer = request.header("prefer", "return=representation").send().await.unwrap();
        let rows: Value = answer.json().await.unwrap();
        assert_eq!(rows, json!([{ "tag": tag, "owner": self.sub, "pages": 1 }]));
    }

    /// A request that fails in this way, after it has written something if it can.
    async fn fails(&self, way: u64, tag: &str) {
        let tag = format!("refused-{tag}");
        let called = |way: &str| self.post("rpc/refuse", &json!({ "tag": tag, "way": way }));
        let (request, code) = match way {
            0 => (called("divide"), "22012"),
            1 => (called("cast"), "22P02"),
            2 => (called("raise"), "PT418"),
            3 => (called("rights"), "42501"),
            4 => (called("missing"), "42P01"),
            5 => (self.post("letters", &json!([{ "tag": tag }, { "tag": tag }])), "23505"),
            6 => (self.post("letters", &json!([{ "tag": tag }, { "tag": null }])), "23502"),
            7 => (self.post("letters", &json!([{ "tag": tag, "pages": "many" }])), "22P02"),
            _ => (self.post("letters", &json!({ "tag": tag, "pages": 13 })), "23000"),
        };
        let error: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(error["code"], code, "{error}");
    }

    /// A token of a role that the caller may not have, or signed by somebody else.
    async fn forges(&self, keys: &Keys, way: u64, tag: &str) {
        let other = Keys::new(
            "another secret of thirty-two bytes".into(),
            "".into(),
            "".into(),
            "".into(),
            "".into(),
        );
        let (keys, role, status) = match way {
            0 => (keys, "supabase_admin", StatusCode::FORBIDDEN),
            1 => (keys, "nobody_at_all", StatusCode::UNAUTHORIZED),
            _ => (&other, "service_role", StatusCode::UNAUTHORIZED),
        };
        let token = keys
            .sign(&json!({ "role": role, "sub": self.sub, "number": self.number }))
            .unwrap();
        let request = self.client.post(format!("{}/letters", self.url)).bearer_auth(token);
        let answer = request
            .json(&json!({ "tag": format!("refused-{tag}") }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
    }

    /// Goes away before the answer, most of the time.
    async fn hangs_up(&self, micros: u64, tag: &str) -> u64 {
        let request = self
            .post("rpc/linger", &json!({ "tag": tag }))
            .timeout(Duration::from_micros(micros));
        u64::from(request.send().await.is_err())
    }
}

/// How many rows there are that should not be.
async fn count(pool: &PgPool, condition: &'static str) -> i64 {
    let sql = format!("select count(*) from {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_answered_as_themselves_whatever_others_do() {
    let database = TestDatabase::platform().await;
    let admin = database.pool(Login::Admin);
    sqlx::raw_sql(SCHEMA).execute(&admin).await.unwrap();
    let app = App::on(database).await;
    let mut callers = JoinSet::new();
    for number in 0..16 {
        let (caller, keys) = (Caller::new(&app, number), std::sync::Arc::clone(&app.keys));
        callers.spawn(async move {
            let (mut seed, mut gone) = (number, 0);
            for round in 0..60 {
                let tag = format!("{number}-{round}");
                match random(&mut seed) % 8 {
                    0 => caller.fails(random(&mut seed) % 9, &tag).await,
                    1 => caller.forges(&keys, random(&mut seed) % 3, &tag).await,
                    2 => caller.is_nobody(&tag).await,
                    3 => caller.writes(&tag).await,
                    4 | 5 => gone += caller.hangs_up(500 + random(&mut seed) % 12_000, &tag).await,
                    _ => caller.is_himself(random(&mut seed).is_multiple_of(2), &tag).await,
                }
            }
            gone
        });
    }
    let gone: u64 = callers.join_all().await.into_iter().sum();
    assert!(gone > 50, "{gone} went away");

    until("no session is in a transaction", async || {
        let open = "pg_stat_activity where datname = current_database() and usename = 'authenticator' \
                    and (state <> 'idle' or backend_xid is not null)";
        count(&admin, open).await == 0
    })
    .await;
    assert_eq!(count(&admin, "public.letters where tag like 'refused%'").await, 0);
    let misplaced = "public.letters where split_part(tag, '-', 1)::int <> right(owner::text, 12)::int";
    assert_eq!(count(&admin, misplaced).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_the_statement_of_a_client_that_went_away() {
    let database = TestDatabase::platform().await;
    let admin = database.pool(Login::Admin);
    let sleeper = "create function public.sleep() returns void language sql as 'select pg_sleep(120)'";
    sqlx::raw_sql(sleeper).execute(&admin).await.unwrap();
    let app = App::on(database).await;
    let caller = Caller::new(&app, 1);
    let asleep = "pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    // More than there are sessions.
    for _ in 0..3 {
        let sleeping: JoinSet<_> = (0..8).map(|_| caller.post("rpc/sleep", &json!({})).send()).collect();
        until("every session sleeps", async || count(&admin, asleep).await == 8).await;
        drop(sleeping);
        until("all are awake", async || count(&admin, asleep).await == 0).await;
    }
    app.stop().await;
}
