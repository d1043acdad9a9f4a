//! One throw-away Postgres for the whole run, through the same code as `serve`, but without fsync.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgPool};
use switchboard::{
    db::{Database, Login, migrations::Migrations, platform},
    postgres::{Durability, Server, Settings},
};
use tokio_util::sync::CancellationToken;

/// Platform and migrations, for copies.
const TEMPLATE: &str = "template_switchboard";
/// The platform alone.
const BARE_TEMPLATE: &str = "template_platform";

/// A database of one test. It stays until the run ends, so that a failure can be looked at while it lasts.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// For the code under test.
    pub database: Database,
}

impl TestDatabase {
    /// A copy with platform and migrations.
    pub async fn new() -> Self {
        Self::copy_of(TEMPLATE).await
    }

    /// A copy with the platform alone, for tests that bring their own schema.
    pub async fn platform() -> Self {
        Self::copy_of(BARE_TEMPLATE).await
    }

    /// With nothing in it.
    pub async fn empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = server().clone();
        create(&database, &name, template).await;
        Self {
            database: database.named(&name),
        }
    }

    /// Its URL, for a process of its own.
    pub fn url(&self, user: &str) -> String {
        let options = self.database.options(Login::Admin);
        let folder = options.get_socket().unwrap().display();
        let name = options.get_database().unwrap();
        format!(
            "postgresql://{user}@localhost:{}/{name}?host={folder}",
            options.get_port()
        )
    }

    /// A pool of connections as this login.
    pub fn pool(&self, login: Login) -> PgPool {
        self.database.pool(login, 4)
    }
}

async fn create(server: &Database, name: &str, template: &str) {
    let mut connection = server.connect(Login::Admin).await.unwrap();
    let statement = format!("create database {name} template {template}");
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    if template != "template0" {
        // The platform grants this, and a copy has everything but the grants on the database itself.
        let grant = format!("grant create on database {name} to postgres, supabase_auth_admin, supabase_storage_admin");
        connection.execute(AssertSqlSafe(grant)).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// The run's server, started by the first test that asks.
fn server() -> &'static Database {
    static SERVER: OnceLock<Database> = OnceLock::new();
    SERVER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // Postgres stops with the thread that spawned it, and a test's thread ends with its test.
        thread::Builder::new()
            .name("postgres".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let mut server = start().await;
                    let database = Database::embedded(server.socket_directory(), server.port());
                    make_templates(&database).await;
                    sender.send(database).unwrap();
                    panic!("the tests' Postgres is gone: {}", server.ended().await);
                });
            })
            .unwrap();
        receiver
            .recv()
            .expect("the tests' Postgres did not start; the reason is above")
    })
}

async fn start() -> Server {
    let folder = temporary_folder();
    remove_after_us(&folder);
    let settings = Settings {
        folder,
        bin: None,
        account: None,
        superuser: "supabase_admin".into(),
        port: 0,
        durability: Durability::None,
        parameters: [
            ("max_connections", "300"),
            ("max_wal_senders", "40"),
            ("max_replication_slots", "40"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    };
    Server::start(&settings, &CancellationToken::new()).await.unwrap()
}

async fn make_templates(server: &Database) {
    create(server, BARE_TEMPLATE, "template0").await;
    let outcome = platform::apply(&server.named(BARE_TEMPLATE)).await.unwrap();
    assert_eq!(outcome, platform::Outcome::Applied);
    create(server, TEMPLATE, BARE_TEMPLATE).await;
    Migrations::embedded()
        .unwrap()
        .apply(&server.named(TEMPLATE))
        .await
        .unwrap();
}

/// A new folder that another account may pass through: run by root, Postgres belongs to another.
pub fn temporary_folder() -> std::path::PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("switchboard-test-")
        .tempdir()
        .unwrap()
        .keep();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Statics are never dropped, and a run may be killed: a shell of its own group waits for our end, then for
/// Postgres's, then removes the folder.
#[expect(clippy::zombie_processes, reason = "it waits for us")]
fn remove_after_us(folder: &Path) {
    let script = r#"
        cat > /dev/null
        for i in $(seq 300); do
          [ -e "$1/pg/postmaster.pid" ] || break
          sleep 0.1
        done
        rm -rf "$1"
    "#;
    let mut shell = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    // Open until this process ends, however it ends.
    std::mem::forget(shell.stdin.take());
}
