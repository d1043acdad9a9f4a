//! Sessions under callers that come and go: nobody meets another's role, claims, or half an answer.

use std::time::Duration;

use sqlx::Row as _;
use switchboard::db::{
    Login,
    session::{Failure, Pool, Step},
};
use tokio::{task::JoinSet, time::timeout};

use super::random;
use crate::support::{cluster::TestDatabase, until};

const SETTINGS: &str = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";
/// Large enough that an answer does not come in one piece.
const WHO: &str = "select current_user, current_setting('request.jwt.claims', true), $1, repeat($1, 3000)
                   from generate_series(1, 20)";
const BARE: &str = "select current_user, current_setting('request.jwt.claims', true)";

async fn asks(pool: &Pool, role: &str, tag: &str) -> Result<(), Failure> {
    let own = [Some(role.as_bytes()), Some(tag.as_bytes())];
    let tagged = [Some(tag.as_bytes())];
    let steps = [Step::new(SETTINGS, &own), Step::new(WHO, &tagged).as_role(role)];
    let rows = pool.transaction(&steps).await?;
    assert_eq!(rows[1].len(), 20);
    for row in &rows[1] {
        assert_eq!(
            [row.text(0), row.text(1), row.text(2)],
            [Some(role), Some(tag), Some(tag)]
        );
        assert_eq!(row.text(3).unwrap(), tag.repeat(3000));
    }
    Ok(())
}

async fn fails(pool: &Pool, role: &str, tag: &str) {
    let own = [Some(role.as_bytes()), Some(tag.as_bytes())];
    let sql = "select 1 / (length(current_user) - length(current_user))";
    let steps = [Step::new(SETTINGS, &own), Step::new(sql, &[]).as_role(role)];
    let failure = pool.transaction(&steps).await.unwrap_err();
    assert_eq!(
        failure.refusal().map(|refusal| refusal.code.as_str()),
        Some("22012"),
        "{failure}"
    );
}

/// Nothing is left of those before.
async fn is_bare(pool: &Pool) {
    let rows = pool.transaction(&[Step::new(BARE, &[])]).await.unwrap();
    let row = &rows[0][0];
    assert_eq!(row.text(0), Some("authenticator"));
    assert_eq!(row.text(1).unwrap_or_default(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_leave_nothing_behind() {
    let database = TestDatabase::platform().await;
    let pool = Pool::new(&database.database, Login::Authenticator, 4).unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..12u64 {
        let pool = pool.clone();
        callers.spawn(async move {
            let role = ["anon", "authenticated", "service_role"][usize::try_from(caller % 3).unwrap()];
            let (mut seed, mut answered, mut given_up) = (caller, 0, 0);
            for round in 0..60 {
                let tag = format!("{caller}-{round}");
                match random(&mut seed) % 5 {
                    0 => fails(&pool, role, &tag).await,
                    1 => is_bare(&pool).await,
                    2 => {
                        asks(&pool, role, &tag).await.unwrap();
                        answered += 1;
                    }
                    _ => {
                        let patience = Duration::from_micros(random(&mut seed) % 4_000);
                        match timeout(patience, asks(&pool, role, &tag)).await {
                            Ok(answer) => answer.unwrap(),
                            Err(_) => given_up += 1,
                        }
                    }
                }
            }
            (answered, given_up)
        });
    }
    let (mut answered, mut given_up) = (0, 0);
    for (answers, cancelled) in callers.join_all().await {
        answered += answers;
        given_up += cancelled;
    }
    assert!(
        answered > 50 && given_up > 50,
        "{answered} answered, {given_up} given up"
    );

    for _ in 0..20 {
        is_bare(&pool).await;
    }
    let admin = database.pool(Login::Admin);
    until("no backend is in a transaction", async || {
        let states = "select state from pg_stat_activity
                      where datname = current_database() and usename = 'authenticator' and state <> 'idle'";
        let open = sqlx::query(states).fetch_all(&admin).await.unwrap();
        open.iter().all(|row| row.get::<&str, _>("state") == "idle")
    })
    .await;
}

/// One session, so that whoever comes next would meet what is left.
#[tokio::test]
async fn a_session_left_in_an_answer_is_not_used_again() {
    let database = TestDatabase::platform().await;
    let pool = Pool::new(&database.database, Login::Authenticator, 1).unwrap();
    let mut given_up = 0;
    for micros in (0..6_000).step_by(60) {
        let asked = timeout(Duration::from_micros(micros), asks(&pool, "anon", "first")).await;
        given_up += u32::from(asked.is_err());
        asks(&pool, "authenticated", "second").await.unwrap();
        is_bare(&pool).await;
    }
    assert!(given_up > 0, "nobody gave up");
}

#[tokio::test]
async fn a_step_that_opens_a_transaction_of_its_own_costs_the_session() {
    let database = TestDatabase::platform().await;
    let pool = Pool::new(&database.database, Login::Authenticator, 1).unwrap();
    let own = [Some(b"anon".as_slice()), Some(b"claims".as_slice())];
    let steps = [Step::new("begin", &[]), Step::new(SETTINGS, &own)];
    pool.transaction(&steps).await.unwrap();
    is_bare(&pool).await;
}
