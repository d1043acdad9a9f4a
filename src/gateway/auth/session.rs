//! Sessions: how one begins, the tokens that prove it, and how it ends.

use axum::{
    Json,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json as Decoded};
use uuid::Uuid;

use super::{
    Auth,
    audit::{self, Action},
    error::{Error, Result},
    request::Origin,
    user::{self, User},
};
use crate::gateway::keys::now;

/// How a user proved who he is; the claim `amr` says it.
#[derive(Clone, Copy)]
pub enum Method<'a> {
    /// By the password of this hash.
    Password(&'a str),
    /// By nothing; the user is whoever holds the token.
    Anonymous,
    /// By a code or link from a mail.
    Otp,
}

impl Method<'_> {
    fn as_str(self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Anonymous => "anonymous",
            Self::Otp => "otp",
        }
    }
}

/// The answer to every sign-in: tokens, and whose they are.
#[derive(Serialize)]
pub struct Tokens {
    pub access_token: String,
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds since 1970.
    pub expires_at: i64,
    pub refresh_token: String,
    pub user: User,
    /// Set where the password was right but would not be accepted today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weak_password: Option<WeakPassword>,
    #[serde(skip)]
    session: Uuid,
}

/// Why a password would not be accepted today.
#[derive(Debug, Serialize)]
pub struct WeakPassword {
    pub message: String,
    pub reasons: Vec<&'static str>,
}

impl IntoResponse for Tokens {
    fn into_response(self) -> Response {
        let headers = [
            (HeaderName::from_static("sb-auth-user-id"), self.user.id),
            (HeaderName::from_static("sb-auth-session-id"), self.session),
        ];
        let headers = headers.map(|(name, id)| {
            let id = HeaderValue::try_from(id.to_string()).expect("a UUID is visible ASCII");
            (name, id)
        });
        (headers, Json(self)).into_response()
    }
}

/// The claims of an access token, in the order Supabase writes them.
#[derive(Serialize)]
struct AccessClaims<'a> {
    iss: &'a str,
    sub: Uuid,
    aud: &'a str,
    exp: i64,
    iat: i64,
    email: &'a str,
    phone: &'a str,
    app_metadata: &'a RawValue,
    user_metadata: &'a RawValue,
    role: &'a str,
    aal: &'static str,
    amr: &'a [Proof],
    session_id: Uuid,
    is_anonymous: bool,
}

/// One entry of the claim `amr`.
#[derive(Deserialize, Serialize)]
struct Proof {
    method: String,
    timestamp: i64,
}

impl Auth {
    /// Starts a session of a user.
    ///
    /// # Errors
    /// When the user is gone, banned or of another password meanwhile, or the database fails.
    pub async fn start_session(
        &self,
        connection: &mut PgConnection,
        user: Uuid,
        method: Method<'_>,
        origin: &Origin,
    ) -> Result<Tokens> {
        let session = Uuid::new_v4();
        let refresh_token = refresh_token();
        let hash = match method {
            Method::Password(hash) => Some(hash),
            Method::Anonymous | Method::Otp => None,
        };
        let started = sqlx::query(include_str!("../../../sql/gateway/auth_start_session.sql"))
            .bind(user)
            .bind(session)
            .bind(&origin.user_agent)
            .bind(&origin.ip)
            .bind(method.as_str())
            .bind(&refresh_token)
            .bind(hash)
            .execute(&mut *connection)
            .await
            .map_err(Error::database("Database error granting user"))?;
        if started.rows_affected() == 0 {
            return Err(Error::Credentials);
        }
        let tokens = self.tokens(&mut *connection, user, session, refresh_token).await?;
        audit::record(connection, Action::Login, Some(&tokens.user), origin).await?;
        Ok(tokens)
    }

    /// The answer that carries a session's tokens, the access token being a new one.
    ///
    /// # Errors
    /// When the user is gone meanwhile, or the database fails.
    pub async fn tokens(
        &self,
        connection: &mut PgConnection,
        user: Uuid,
        session: Uuid,
        refresh_token: String,
    ) -> Result<Tokens> {
        let (user, _) = user::by_id(&mut *connection, user).await?.ok_or(Error::Credentials)?;
        let Decoded(proofs): Decoded<Vec<Proof>> =
            sqlx::query_scalar(include_str!("../../../sql/gateway/auth_session_methods.sql"))
                .bind(session)
                .fetch_one(connection)
                .await
                .map_err(Error::database("Database error granting user"))?;
        let second = |proof: &Proof| matches!(proof.method.as_str(), "totp" | "mfa/phone" | "mfa/webauthn");
        let issued_at = now();
        let expires_in = self.settings.token_lifetime;
        let claims = AccessClaims {
            iss: &self.issuer,
            sub: user.id,
            aud: &user.aud,
            exp: issued_at + expires_in,
            iat: issued_at,
            email: &user.email,
            phone: &user.phone,
            app_metadata: &user.app_metadata,
            user_metadata: &user.user_metadata,
            role: &user.role,
            aal: if proofs.iter().any(second) { "aal2" } else { "aal1" },
            amr: &proofs,
            session_id: session,
            is_anonymous: user.is_anonymous,
        };
        let access_token = self.keys.sign(&claims).map_err(Error::unexpected)?;
        Ok(Tokens {
            access_token,
            token_type: "bearer",
            expires_in,
            expires_at: claims.exp,
            refresh_token,
            weak_password: None,
            session,
            user,
        })
    }
}

/// Which of a user's sessions end.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Every one.
    All,
    /// This one.
    One(Uuid),
    /// Every one but this.
    Others(Uuid),
}

/// Ends sessions of a user, their tokens with them.
///
/// # Errors
/// When the database fails.
pub async fn end(connection: &mut PgConnection, user: Uuid, ending: Ending) -> Result<()> {
    let (statement, session) = match ending {
        Ending::All => (
            "delete from sessions where user_id = $1 and id is distinct from $2",
            None,
        ),
        Ending::One(id) => ("delete from sessions where user_id = $1 and id = $2", Some(id)),
        Ending::Others(id) => ("delete from sessions where user_id = $1 and id <> $2", Some(id)),
    };
    sqlx::query(statement)
        .bind(user)
        .bind(session)
        .execute(connection)
        .await
        .map_err(Error::database("Error logging out user"))?;
    Ok(())
}

/// How many characters a refresh token has.
pub const REFRESH_TOKEN_LENGTH: usize = 12;

/// A new refresh token, one of 36^12.
pub fn refresh_token() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..REFRESH_TOKEN_LENGTH)
        .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
        .collect()
}
