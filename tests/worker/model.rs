//! A crowd against a model: customers, agents and leads do what they like, over connections of their own that are cut at
//! random, while workers come and go. At every instant the database must be consistent; when everybody pauses, nobody
//! may wait for whom somebody is free, and nobody may have been overtaken. What is right is said here in Rust, by what
//! people set (accounts, members, skills, presence), not by what routing made of it.
//!
//! `MODEL_SEED` repeats the choices of a run, though not their order in time; `MODEL_STEPS` is how many steps each person
//! takes between two pauses, `MODEL_ROUNDS` how often it all begins anew. `MODEL_SQL` names a file of statements to run
//! first: take a lock out of a function there, and see this test fail.

use std::{str::FromStr, time::Duration};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, PgConnection};
use switchboard::{
    db::{Database, Login},
    worker::{
        Outcome,
        duties::{POSITIONS, RECONCILE},
    },
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    acts::{Scope, Visit},
    client::{Client, Seen},
    people::People,
    snapshot::Snapshot,
    trouble::Workers,
};
use super::desk;
use crate::support::{SOON, cluster::TestDatabase, until};

mod acts;
mod client;
mod history;
mod people;
mod rules;
mod snapshot;
mod trouble;

const CUSTOMERS: usize = 64;

/// Clients' connections that do something.
const UNDER_WAY: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and usename = 'authenticator' and state <> 'idle'";

/// How long workers may take to serve a line that nobody joins or leaves.
const PATIENCE: Duration = Duration::from_secs(15);

fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().ok().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_agrees_with_the_model() {
    let seed = setting("MODEL_SEED", rand::random());
    let steps: usize = setting("MODEL_STEPS", 10);
    let rounds: usize = setting("MODEL_ROUNDS", 2);
    println!("MODEL_SEED={seed} MODEL_STEPS={steps} MODEL_ROUNDS={rounds}");

    let mut rng = StdRng::seed_from_u64(seed);
    let database = TestDatabase::new().await.database;
    let mut owner = desk::owner(&database).await;
    if let Ok(file) = std::env::var("MODEL_SQL") {
        let statements = std::fs::read_to_string(file).unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut owner)
            .await
            .unwrap();
    }
    let people = People::arrive(&mut owner, &mut rng, CUSTOMERS).await;
    let seen = Seen::default();
    let mut visits = vec![Visit::default(); CUSTOMERS];

    // first a rush on empty seats; then a crowd without a worker, as statements alone serve the line; then all
    let parts = [
        ("a rush", Scope::WithoutWorker, 1),
        ("a crowd", Scope::WithoutWorker, steps),
        ("a crowd with workers", Scope::All, steps),
    ];
    for (name, scope, steps) in parts.into_iter().cycle().take(parts.len() * rounds) {
        if steps == 1 {
            clear(&mut owner).await;
            visits.fill(Visit::default());
        }
        let mut workers = (scope == Scope::All).then(|| Workers::start(&database, 2));
        let everybody = Round {
            database: &database,
            people: &people,
            seen: &seen,
            scope,
            steps,
        };
        everybody.act(&mut rng, &mut visits, workers.as_mut()).await;

        let pause = pause(&mut owner, &database, scope).await;
        if let Some(workers) = workers {
            workers.stop().await;
        }
        let (tally, wrong) = seen.report();
        println!("{name}: {tally}");
        let wrong: Vec<_> = pause.into_iter().chain(wrong).collect();
        assert!(
            wrong.is_empty(),
            "MODEL_SEED={seed}, {name}: {} things are wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
    }

    let wrong = history::wrong(&mut owner, &seen.line()).await;
    assert!(
        wrong.is_empty(),
        "MODEL_SEED={seed}: {} things went wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

/// Everybody goes home and comes back.
async fn clear(owner: &mut PgConnection) {
    for statement in [
        "update public.support_agents set status = 'offline'",
        "update public.chat_sessions set status = 'ended' where status in ('waiting', 'active')",
        "update public.support_agents set status = 'available', is_accepting_tickets = true",
    ] {
        sqlx::query(statement).execute(&mut *owner).await.unwrap();
    }
}

/// What everybody does between two pauses.
struct Round<'run> {
    database: &'run Database,
    people: &'run People,
    seen: &'run Seen,
    scope: Scope,
    steps: usize,
}

impl Round<'_> {
    async fn act(&self, rng: &mut StdRng, visits: &mut [Visit], workers: Option<&mut Workers>) {
        let (people, scope, steps) = (self.people, self.scope, self.steps);
        let mut seeds = std::iter::repeat_with(|| StdRng::seed_from_u64(rng.random()));
        let mut client = |person: &people::Person| {
            let rng = seeds.next().expect("seeds never end");
            Client::new(self.database, self.seen, person.clone(), rng)
        };
        let mut customers: Vec<_> = people.customers.iter().map(&mut client).collect();
        let mut agents: Vec<_> = people.agents.iter().map(&mut client).collect();
        let mut leads: Vec<_> = people.leads.iter().map(&mut client).collect();
        let troubles = seeds.next().expect("seeds never end");

        let customers = customers.iter_mut().zip(visits).map(async |(client, visit)| {
            for _ in 0..steps {
                acts::customer(client, people, scope, visit).await;
            }
        });
        let agents = agents.iter_mut().map(async |client| {
            for _ in 0..2 * (steps - 1) {
                acts::agent(client, people).await;
            }
        });
        let leads = leads.iter_mut().map(async |client| {
            for _ in 0..4 * (steps - 1) {
                acts::lead(client, people, scope).await;
            }
        });
        let stop = CancellationToken::new();
        let watcher = self.watch(desk::owner(self.database).await, &stop);
        let trouble = trouble::make(desk::owner(self.database).await, workers, troubles, &stop);
        let crowd = async {
            let done = async { tokio::join!(join_all(customers), join_all(agents), join_all(leads)) };
            if timeout(SOON, done).await.is_err() {
                self.seen.wrong("the crowd did not finish in time".to_owned());
            }
            stop.cancel();
        };
        tokio::join!(crowd, watcher, trouble);
    }

    /// Looks again and again at what may never be.
    async fn watch(&self, mut owner: PgConnection, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let (snapshot, mut wrong) = Snapshot::take(&mut owner).await;
            for agent in snapshot.agents {
                if agent.load > agent.capacity && self.people.is_steady(agent.user_id) {
                    wrong.push(format!(
                        "{}: has {} of {} chats",
                        agent.user_id, agent.load, agent.capacity
                    ));
                }
            }
            for what in wrong {
                self.seen.wrong(what);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What is wrong once everybody has paused. Workers, if there are any, get the time they need.
async fn pause(owner: &mut PgConnection, database: &Database, scope: Scope) -> Vec<String> {
    let pool = database.pool(Login::Owner, 1);
    // a client whose connection was cut is told so before its transaction has let go of its locks
    until("nothing is under way", async || {
        desk::count(owner, UNDER_WAY).await == 0
    })
    .await;
    if scope == Scope::WithoutWorker {
        POSITIONS.tick(&pool).await.unwrap(); // the one thing that nobody but a worker does
    }
    let deadline = Instant::now() + PATIENCE;
    let mut wrong = wrong_now(owner).await;
    while scope == Scope::All && !wrong.is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        wrong = wrong_now(owner).await;
    }
    let outcome = RECONCILE.tick(&pool).await.unwrap();
    if outcome != Outcome::Idle {
        wrong.push(format!("there was something to reconcile: {outcome:?}"));
    }
    wrong
}

async fn wrong_now(owner: &mut PgConnection) -> Vec<String> {
    let (snapshot, mut wrong) = Snapshot::take(owner).await;
    wrong.extend(snapshot.wrong_at_rest());
    wrong
}
