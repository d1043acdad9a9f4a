//! The gateway in the test's own process, on a database of the test's own.

use std::{net::SocketAddr, sync::Arc};

use axum::ServiceExt;
use switchboard::{
    gateway::{self, Context, Services, keys::Keys},
    health::Health,
    shutdown::Shutdown,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{cluster::TestDatabase, until};

/// A gateway that answers. It stops when dropped.
#[derive(Debug)]
pub struct App {
    /// `http://127.0.0.1:<port>`
    pub url: String,
    /// Its keys: those of development.
    pub keys: Arc<Keys>,
    /// What its parts say.
    pub health: Health,
    /// Its database.
    pub database: TestDatabase,
    shutdown: Shutdown,
    _files: TempDir,
}

impl App {
    /// Every service, on a database with platform and migrations.
    pub async fn start() -> Self {
        Self::on(TestDatabase::new().await).await
    }

    /// Every service, on this database. Returns when each part says that it is ready.
    pub async fn on(database: TestDatabase) -> Self {
        let files = tempfile::tempdir().unwrap();
        let services = Services {
            auth: Some(gateway::auth::Settings::default()),
            rest: Some(gateway::rest::Settings::default()),
            realtime: Some(gateway::realtime::Settings::default()),
            storage: Some(gateway::storage::Settings::in_folder(files.path())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            keys: Arc::new(Keys::development()),
            health: Health::default(),
            database,
            shutdown: Shutdown::default(),
            _files: files,
        };
        let context = Context {
            database: app.database.database.clone(),
            keys: Arc::clone(&app.keys),
            public_url: app.url.clone(),
            shutdown: app.shutdown.clone(),
            health: app.health.clone(),
        };
        let api = gateway::start(context, services).await.unwrap();
        let stop = app.shutdown.token().clone();
        let service = api.into_make_service_with_connect_info::<SocketAddr>();
        app.shutdown.spawn(async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .unwrap();
        });
        until("every part is ready", async || {
            app.health.report().values().all(Result::is_ok)
        })
        .await;
        app
    }

    /// Stops it as `serve` does and waits for its end.
    pub async fn stop(self) {
        self.shutdown.start();
        assert!(self.shutdown.finished().await, "the gateway did not stop in time");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown.start();
    }
}
