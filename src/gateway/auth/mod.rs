//! `/auth/v1`.

use axum::Router;

use super::Context;

/// How the service behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

/// The service's routes, without the prefix `/auth/v1`.
///
/// # Errors
/// When the service cannot start.
#[expect(clippy::unused_async, reason = "the service is not written yet")]
pub async fn router(_context: Context, _settings: Settings) -> anyhow::Result<Router> {
    Ok(Router::new())
}
