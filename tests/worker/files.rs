//! Files of erased chats, removed through the Storage API.

use sqlx::PgConnection;
use switchboard::{
    db::Login,
    health::Health,
    worker::{
        Outcome,
        files::{Files, Storage},
    },
};
use url::Url;
use uuid::Uuid;

use super::desk;
use crate::support::app::App;

const LISTED: &str = "select count(*) from chat.file_removals";
const STORED: &str = "select count(*) from storage.objects";
const BLOBS_TO_DELETE: &str = "select count(*) from storage.blobs_to_delete";

/// An ended chat with so many files.
async fn chat_with_files(app: &App, owner: &mut PgConnection, count: usize) -> Uuid {
    let customer = desk::users(owner, 1).await[0];
    let session = desk::start(owner, customer).await.unwrap().id;
    for number in 0..count {
        let key = app.keys.service_role.expose();
        let answer = reqwest::Client::new()
            .post(format!(
                "{}/storage/v1/object/chat-attachments/{session}/{number}.txt",
                app.url
            ))
            .header("apikey", key)
            .bearer_auth(key)
            .header("content-type", "text/plain")
            .body("what he wrote")
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    desk::end(owner, customer, session).await.unwrap();
    session
}

async fn erase(owner: &mut PgConnection, session: Uuid) {
    sqlx::query("select public.chat_erase_session($1, null)")
        .bind(session)
        .execute(owner)
        .await
        .unwrap();
}

async fn make_due(owner: &mut PgConnection) {
    sqlx::query("update chat.file_removals set next_try_at = now()")
        .execute(owner)
        .await
        .unwrap();
}

fn storage(app: &App, url: &str) -> Option<Storage> {
    Some(Storage {
        url: Url::parse(url).unwrap(),
        key: app.keys.service_role.clone(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_erased_chat_are_removed_by_many_workers_at_once() {
    let app = App::start().await;
    let mut owner = desk::owner(&app.database.database).await;
    let pool = app.database.pool(Login::Owner);
    let erased = chat_with_files(&app, &mut owner, 3).await;
    chat_with_files(&app, &mut owner, 1).await;
    erase(&mut owner, erased).await;
    assert_eq!(desk::count(&mut owner, LISTED).await, 3);

    let files = Files::new(storage(&app, &app.url), Health::default()).unwrap();
    let (one, other) = tokio::join!(files.tick(&pool), files.tick(&pool));
    let mut outcomes = [one.unwrap(), other.unwrap()];
    outcomes.sort_by_key(|outcome| *outcome == Outcome::Idle);
    assert_eq!(outcomes, [Outcome::Done(3), Outcome::Idle], "claimed once");
    assert_eq!(desk::count(&mut owner, LISTED).await, 0);
    assert_eq!(desk::count(&mut owner, STORED).await, 1, "other chats keep theirs");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_fails_is_asked_again_later() {
    let app = App::start().await;
    let mut owner = desk::owner(&app.database.database).await;
    let pool = app.database.pool(Login::Owner);
    let session = chat_with_files(&app, &mut owner, 2).await;
    erase(&mut owner, session).await;

    // nothing listens there
    let nowhere = Files::new(storage(&app, "http://127.0.0.1:9"), Health::default()).unwrap();
    assert!(nowhere.tick(&pool).await.is_err());
    assert_eq!(desk::count(&mut owner, STORED).await, 2);
    let told = "select count(*) from chat.file_removals
        where attempts = 1 and next_try_at > now() and last_error = 'storage cannot be reached'";
    assert_eq!(desk::count(&mut owner, told).await, 2);

    let forged = Some(Storage {
        url: Url::parse(&app.url).unwrap(),
        key: app.keys.anon.clone(),
    });
    make_due(&mut owner).await;
    assert!(
        Files::new(forged, Health::default())
            .unwrap()
            .tick(&pool)
            .await
            .is_err()
    );
    assert_eq!(
        desk::count(&mut owner, LISTED).await,
        2,
        "what storage left is not forgotten"
    );

    // the list may name what is gone already
    sqlx::query("insert into chat.file_removals (bucket, name) values ('chat-attachments', 'gone'), ('none', 'gone')")
        .execute(&mut owner)
        .await
        .unwrap();
    make_due(&mut owner).await;
    let files = Files::new(storage(&app, &app.url), Health::default()).unwrap();
    assert_eq!(files.tick(&pool).await.unwrap(), Outcome::Done(4));
    assert_eq!(desk::count(&mut owner, LISTED).await, 0);
    assert_eq!(desk::count(&mut owner, STORED).await, 0);
    assert!(
        desk::count(&mut owner, BLOBS_TO_DELETE).await <= 2,
        "storage itself sees to the bytes"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_storage_files_wait_and_health_says_so() {
    let app = App::start().await;
    let mut owner = desk::owner(&app.database.database).await;
    let pool = app.database.pool(Login::Owner);
    let health = Health::default();
    let files = Files::new(None, health.clone()).unwrap();
    assert_eq!(files.tick(&pool).await.unwrap(), Outcome::Idle);
    assert!(health.report().is_empty(), "nothing waits");

    let session = chat_with_files(&app, &mut owner, 1).await;
    erase(&mut owner, session).await;
    assert_eq!(files.tick(&pool).await.unwrap(), Outcome::Idle);
    assert!(matches!(health.report().get("files"), Some(Err(reason)) if reason.contains("storage")));
    assert_eq!(desk::count(&mut owner, LISTED).await, 1);
    app.stop().await;
}
