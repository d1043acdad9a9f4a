//! `POST /logout`: the end of sessions.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

use super::{
    Auth,
    audit::{self, Action},
    bearer::SignedIn,
    error::{Error, Result},
    request::{Origin, Query},
    session::{self, Ending},
};

#[derive(Deserialize)]
pub struct Request {
    scope: Option<String>,
}

/// Ends all of one's sessions, this one, or all others.
pub async fn logout(
    State(auth): State<Auth>,
    me: SignedIn,
    Query(Request { scope }): Query<Request>,
    origin: Origin,
) -> Result<StatusCode> {
    // A token without a session has none to end or to spare.
    let ending = match (scope.as_deref(), me.session) {
        (None | Some("" | "global"), _) | (Some("others"), None) => Some(Ending::All),
        (Some("local"), session) => session.map(Ending::One),
        (Some("others"), Some(session)) => Some(Ending::Others(session)),
        (Some(scope), _) => return Err(Error::validation(format!("Unsupported logout scope {scope:?}"))),
    };
    let failed = || Error::database("Error logging out user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    if let Some(ending) = ending {
        session::end(&mut transaction, me.user.id, ending).await?;
    }
    audit::record(&mut transaction, Action::Logout, Some(&me.user), &origin).await?;
    transaction.commit().await.map_err(failed())?;
    Ok(StatusCode::NO_CONTENT)
}
