//! Agents change hands of sessions while messages flow: a message that commits is for nobody whose right has ended by
//! then, in the same transaction or an earlier one; those who have it miss nothing; and everything comes in order.

use std::collections::HashMap;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::{PgPool, raw_sql};
use switchboard::db::Login;
use uuid::Uuid;

use super::listener::{Listener, alone, checks};
use crate::support::{app::App, cluster::TestDatabase, until};

/// Sessions whose agents change, and sessions where nothing does.
const BUSY: usize = 6;
const QUIET: usize = 3;
const AGENTS: usize = 24;

/// Messages are for customer and agent of their session, and of support's leads. Each is counted in its session.
const TABLES: &str = "
    create table sessions (id int primary key, customer uuid not null, agent uuid, messages int not null default 0);
    create table staff (person uuid, grade text, primary key (person, grade));
    create table messages (id bigint primary key, session int not null, agent uuid, for_all boolean not null default false);
    alter table sessions enable row level security;
    alter table staff enable row level security;
    alter table messages enable row level security;
    create policy own on staff to authenticated using (person = (select auth.uid()));
    create policy parties on sessions to authenticated using (
      customer = (select auth.uid())
      or agent = (select auth.uid())
      or exists (select from staff where person = (select auth.uid()) and grade = 'lead')
    );
    create policy parties on messages to authenticated using (
      for_all or exists (select from sessions where sessions.id = messages.session)
    );
    create function count_message() returns trigger language plpgsql as $$
    begin
      update sessions set messages = messages + 1 where id = new.session;
      return null;
    end $$;
    create trigger count_message after insert on messages for each row execute function count_message();
    alter publication supabase_realtime add table messages;
";

/// Numbers of a session's messages ascend, and those of all sessions differ.
fn id(session: usize, number: usize) -> i64 {
    i64::try_from(session * 1_000_000 + number).unwrap()
}

const INSERT: &str = "insert into messages (id, session, agent) select $1, id, agent from sessions where id = $2";
const HAND_OVER: &str = "update sessions set agent = $1 where id = $2";

/// Hands a session from agent to agent, none comes back; returns how many messages it has. Every other agent hears
/// what is said in his time before it ends, the others are overtaken by their successors.
async fn hand_over(pool: &PgPool, listeners: &HashMap<Uuid, Listener>, session: usize, agents: Vec<Uuid>) -> usize {
    let key = i32::try_from(session).unwrap();
    let mut number = 0;
    let mut next = || {
        number += 1;
        id(session, number)
    };
    for (turn, agent) in agents.iter().enumerate() {
        let mut transaction = pool.begin().await.unwrap();
        let (before, after) = (turn % 4 == 1, turn % 4 == 3);
        if before {
            // Named as of the commit: it is for the next agent, although it is written first.
            let sql = "insert into messages (id, session, agent) values ($1, $2, $3)";
            sqlx::query(sql)
                .bind(next())
                .bind(key)
                .bind(agent)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        sqlx::query(HAND_OVER)
            .bind(agent)
            .bind(key)
            .execute(&mut *transaction)
            .await
            .unwrap();
        if after {
            sqlx::query(INSERT)
                .bind(next())
                .bind(key)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        for _ in 0..2 {
            sqlx::query(INSERT).bind(next()).bind(key).execute(pool).await.unwrap();
        }
        let last = next();
        sqlx::query(INSERT).bind(last).bind(key).execute(pool).await.unwrap();
        if turn % 2 == 0 {
            listeners[agent].hears(last).await;
        }
    }
    number
}

/// Messages of a session where nothing changes.
async fn talk(pool: &PgPool, session: usize, count: usize) -> usize {
    for number in 1..=count {
        let key = i32::try_from(session).unwrap();
        sqlx::query(INSERT)
            .bind(id(session, number))
            .bind(key)
            .execute(pool)
            .await
            .unwrap();
    }
    count
}

fn claims(person: Uuid) -> Value {
    json!({ "role": "authenticated", "sub": person })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sees_what_was_said_after_his_time() {
    let _alone = alone().await;
    let database = TestDatabase::platform().await;
    let pool = database.database.pool(Login::Owner, 10);
    raw_sql(TABLES).execute(&pool).await.unwrap();
    let people = |count| (0..count).map(|_| Uuid::new_v4()).collect::<Vec<_>>();
    let (customers, agents) = (people(BUSY + QUIET), people(AGENTS));
    for (session, customer) in customers.iter().enumerate() {
        // A quiet session keeps its agent.
        let agent = (session >= BUSY).then(|| agents[session]);
        sqlx::query("insert into sessions (id, customer, agent) values ($1, $2, $3)")
            .bind(i32::try_from(session).unwrap())
            .bind(customer)
            .bind(agent)
            .execute(&pool)
            .await
            .unwrap();
    }
    let app = App::on(database).await;
    let lead = Uuid::new_v4();
    sqlx::query("insert into staff values ($1, 'lead')")
        .bind(lead)
        .execute(&pool)
        .await
        .unwrap();
    let mut listeners = HashMap::new();
    for person in customers.iter().chain(&agents).chain([&lead]) {
        listeners.insert(*person, Listener::new(&app, "messages", claims(*person)).await);
    }
    // Until what policies read is streamed, everything is asked.
    let (before, _) = checks(&app).await;
    let mut warming = 0;
    until("answers are remembered", async || {
        warming -= 1;
        let sql = "insert into messages (id, session, agent) values ($1, 0, null)";
        sqlx::query(sql).bind(warming).execute(&pool).await.unwrap();
        checks(&app).await.0 > before
    })
    .await;

    let busy = (0..BUSY).map(|session| {
        let mut turns = agents.clone();
        turns.rotate_left(session * AGENTS / BUSY);
        hand_over(&pool, &listeners, session, turns)
    });
    let quiet = (BUSY..BUSY + QUIET).map(|session| talk(&pool, session, 60));
    let (mut counts, talks) = join(join_all(busy), join_all(quiet)).await;
    counts.extend(talks);
    // For everybody, and behind all others.
    let last = id(1_000, 0);
    let sql = "insert into messages (id, session, for_all) values ($1, 0, true)";
    sqlx::query(sql).bind(last).execute(&pool).await.unwrap();

    let (mut too_late, mut out_of_order, mut missing) = (0, 0, 0);
    for (person, listener) in &listeners {
        listener.hears(last).await;
        let mut latest = HashMap::new();
        let mut of_session: HashMap<usize, usize> = HashMap::new();
        for row in listener.heard() {
            let number = row["id"].as_i64().unwrap();
            if number < 0 || number == last {
                continue;
            }
            let session = usize::try_from(row["session"].as_i64().unwrap()).unwrap();
            *of_session.entry(session).or_default() += 1;
            out_of_order += usize::from(latest.insert(session, number).is_some_and(|before| before >= number));
            let Some(turn) = agents
                .iter()
                .position(|agent| agent == person)
                .filter(|_| session < BUSY)
            else {
                continue;
            };
            // When it was his turn, and whose it was at the commit.
            let of = |agent: usize| (agent + AGENTS - session * AGENTS / BUSY) % AGENTS;
            let named: Uuid = row["agent"].as_str().unwrap().parse().unwrap();
            let then = agents.iter().position(|agent| *agent == named).unwrap();
            too_late += usize::from(of(turn) < of(then));
        }
        for (session, count) in counts.iter().enumerate() {
            let due = *person == customers[session] || *person == lead || session >= BUSY && *person == agents[session];
            let heard = of_session.get(&session).copied().unwrap_or_default();
            missing += if due { count - heard } else { 0 };
            assert!(session < BUSY || due || heard == 0, "a stranger hears a quiet session");
        }
    }
    assert_eq!((too_late, out_of_order, missing), (0, 0, 0));
    // A scrape may be a second old.
    until("most of it was remembered", async || {
        checks(&app).await.0 > before + 1_000
    })
    .await;
    println!("{:?} remembered and asked", checks(&app).await);
    app.stop().await;
}
