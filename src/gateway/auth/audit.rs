//! The audit log: who did what.

use serde_json::{Value, json};
use sqlx::{PgConnection, types::Json};

use super::{
    error::{Error, Result},
    request::Origin,
    user::User,
};

/// What was done.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    Login,
    Logout,
    /// By oneself.
    SignedUp,
    TokenRefreshed,
    Modified,
    PasswordUpdated,
    /// By the service key: the user is the traits'.
    Created(&'a User),
    /// The same.
    Invited(&'a User),
    /// The same.
    ModifiedByAdmin(&'a User),
    /// The same.
    Deleted(&'a User),
}

impl Action<'_> {
    /// The name and the kind that the log of a Supabase project has.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Login => ("login", "account"),
            Self::Logout => ("logout", "account"),
            Self::SignedUp | Self::Created(_) => ("user_signedup", "team"),
            Self::Invited(_) => ("user_invited", "team"),
            Self::TokenRefreshed => ("token_refreshed", "token"),
            Self::Modified | Self::ModifiedByAdmin(_) => ("user_modified", "user"),
            Self::PasswordUpdated => ("user_updated_password", "user"),
            Self::Deleted(_) => ("user_deleted", "team"),
        }
    }

    fn traits(self) -> Option<Value> {
        match self {
            Self::Created(user) | Self::Invited(user) | Self::ModifiedByAdmin(user) | Self::Deleted(user) => {
                Some(json!({ "user_id": user.id, "user_email": user.email, "user_phone": user.phone }))
            }
            _ => None,
        }
    }
}

/// Writes an entry, in the transaction of what it tells of. Without an actor it was the service key.
///
/// # Errors
/// When the database fails.
pub async fn record(
    connection: &mut PgConnection,
    action: Action<'_>,
    actor: Option<&User>,
    origin: &Origin,
) -> Result<()> {
    let (name, kind) = action.name();
    let username = match actor {
        Some(user) if user.email.is_empty() => &user.phone,
        Some(user) => &user.email,
        None => "service_role",
    };
    sqlx::query(include_str!("../../../sql/gateway/auth_audit.sql"))
        .bind(name)
        .bind(actor.map_or_else(uuid::Uuid::nil, |user| user.id))
        .bind(username)
        .bind(actor.is_some_and(|user| user.is_sso_user))
        .bind(kind)
        .bind(action.traits().map(Json))
        .bind(&origin.ip)
        .execute(connection)
        .await
        .map_err(Error::database("Error recording audit log entry"))?;
    Ok(())
}
