//! Users as they are kept, and as the API shows them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{json, value::RawValue};
use sqlx::{PgConnection, PgExecutor, PgPool, types::Json};
use uuid::Uuid;

use super::{
    error::{Error, Result},
    request::Object,
};

/// A statement that reads users: which ones, and in what order.
macro_rules! select_users {
    ($($which:tt)*) => {
        concat!(include_str!("../../../sql/gateway/auth_user.sql"), $($which)*)
    };
}

/// What the client reads when a user cannot be read.
const FINDING: &str = "Database error finding user";

/// A user. The fields are those of the wire, in its order.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    pub id: Uuid,
    pub aud: String,
    /// The database role the user's tokens name.
    pub role: String,
    /// Empty for none.
    pub email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_at: Option<Timestamp>,
    /// Empty for none.
    pub phone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmation_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_change_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_change_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reauthentication_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<Timestamp>,
    pub app_metadata: Box<RawValue>,
    pub user_metadata: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factors: Option<Vec<Factor>>,
    identities: Vec<Identity>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    pub is_anonymous: bool,
    /// Whether a ban is in force now.
    #[serde(skip_serializing)]
    pub banned: bool,
    /// Whether another identity provider says who the user is.
    #[serde(skip_serializing)]
    pub is_sso_user: bool,
}

/// One way to be recognised.
#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    identity_id: Uuid,
    /// The provider's id of the user.
    id: String,
    user_id: Uuid,
    identity_data: Box<RawValue>,
    provider: String,
    last_sign_in_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// A second factor, as other programs on the same database may have enrolled it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Factor {
    id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    friendly_name: Option<String>,
    factor_type: String,
}

/// A time as the API writes it: RFC 3339 in UTC with a `Z`. It comes from Postgres as text, in UTC because the
/// service's sessions are, and no decision is made on it here.
#[derive(Clone, Debug, Serialize)]
pub struct Timestamp(String);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        if let Some(local) = text.strip_suffix("+00:00") {
            text.truncate(local.len());
            text.push('Z');
        }
        Ok(Self(text))
    }
}

impl User {
    /// Whether a second factor is in force.
    pub fn has_factor(&self) -> bool {
        let mut factors = self.factors.iter().flatten();
        factors.any(|factor| factor.status == "verified")
    }
}

/// A user and the hash of the password, if there is one.
pub type WithPassword = (User, Option<String>);

/// The user with this id.
///
/// # Errors
/// When the database fails.
pub async fn by_id(database: impl PgExecutor<'_>, id: Uuid) -> Result<Option<WithPassword>> {
    let found = sqlx::query_as(select_users!("where u.id = $1"))
        .bind(id)
        .fetch_optional(database)
        .await
        .map_err(Error::database(FINDING))?;
    Ok(found.map(|(Json(user), hash)| (user, hash)))
}

/// The user with this id, if this session of his has not been ended.
///
/// # Errors
/// When the database fails.
pub async fn in_session(database: impl PgExecutor<'_>, id: Uuid, session: Uuid) -> Result<Option<WithPassword>> {
    const WHICH: &str =
        select_users!("where u.id = $1 and exists (select from sessions where id = $2 and user_id = u.id)");
    let found = sqlx::query_as(WHICH)
        .bind(id)
        .bind(session)
        .fetch_optional(database)
        .await
        .map_err(Error::database(FINDING))?;
    Ok(found.map(|(Json(user), hash)| (user, hash)))
}

/// The user with this address among those of an audience.
///
/// # Errors
/// When the database fails.
pub async fn by_email(database: impl PgExecutor<'_>, email: &str, audience: &str) -> Result<Option<WithPassword>> {
    // The instance is the same everywhere; naming it lets the index on the lower-case address serve.
    const WHICH: &str = select_users!(
        "where u.instance_id = '00000000-0000-0000-0000-000000000000'
           and lower(u.email) = lower($1) and u.aud = $2 and not u.is_sso_user"
    );
    let found = sqlx::query_as(WHICH)
        .bind(email)
        .bind(audience)
        .fetch_optional(database)
        .await
        .map_err(Error::database(FINDING))?;
    Ok(found.map(|(Json(user), hash)| (user, hash)))
}

/// One page of the users of an audience, and how many there are on all pages.
#[derive(Debug)]
pub struct Page<'a> {
    pub audience: &'a str,
    /// Part of the address or of the full name; empty for everybody.
    pub filter: &'a str,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    pub limit: i64,
    pub offset: i64,
}

impl Page<'_> {
    /// Reads the page.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(&self, database: &PgPool) -> Result<(Vec<User>, i64)> {
        const COUNT: &str = "select count(*) from users as u
            where u.aud = $1
              and ($2 = '' or strpos(lower(u.email), lower($2)) > 0
                or strpos(lower(u.raw_user_meta_data ->> 'full_name'), lower($2)) > 0)";
        const READ: &str = select_users!(include_str!("../../../sql/gateway/auth_users_page.sql"));
        let failed = "Database error finding users";
        let total = sqlx::query_scalar(COUNT)
            .bind(self.audience)
            .bind(self.filter)
            .fetch_one(database)
            .await
            .map_err(Error::database(failed))?;
        let users: Vec<(Json<User>, Option<String>)> = sqlx::query_as(READ)
            .bind(self.audience)
            .bind(self.filter)
            .bind(self.ascending)
            .bind(self.limit)
            .bind(self.offset)
            .fetch_all(database)
            .await
            .map_err(Error::database(failed))?;
        Ok((users.into_iter().map(|(Json(user), _)| user).collect(), total))
    }
}

/// A user to be created.
pub struct NewUser {
    pub id: Uuid,
    pub audience: String,
    pub role: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub password_hash: Option<String>,
    /// Whether the address counts as the user's own without a proof.
    pub email_confirmed: bool,
    /// The same for the phone number.
    pub phone_confirmed: bool,
    pub app_metadata: Object,
    pub user_metadata: Object,
    /// What the identities know of the user beside the address.
    pub identity_data: Object,
    /// Seconds.
    pub ban: Option<f64>,
}

impl NewUser {
    /// Somebody of whom nothing is known yet; without an address an anonymous user.
    pub fn of(audience: &str) -> Self {
        Self {
            id: Uuid::new_v4(),
            audience: audience.to_owned(),
            role: "authenticated".to_owned(),
            email: None,
            phone: None,
            password_hash: None,
            email_confirmed: false,
            phone_confirmed: false,
            app_metadata: Object::new(),
            user_metadata: Object::new(),
            identity_data: Object::new(),
            ban: None,
        }
    }

    /// Creates the user. His providers are written into `app_metadata`.
    ///
    /// # Errors
    /// When an address is taken, or the database fails.
    pub async fn create(mut self, connection: &mut PgConnection) -> Result<()> {
        let email = self.email.as_ref().map(|_| "email");
        let providers: Vec<&str> = email.into_iter().chain(self.phone.as_ref().map(|_| "phone")).collect();
        if let Some(first) = providers.first() {
            let known = Object::from_iter([
                ("provider".to_owned(), json!(first)),
                ("providers".to_owned(), json!(providers)),
            ]);
            self.app_metadata = known.into_iter().chain(self.app_metadata).collect();
        }
        sqlx::query(include_str!("../../../sql/gateway/auth_create_user.sql"))
            .bind(self.id)
            .bind(self.audience)
            .bind(self.role)
            .bind(self.email)
            .bind(self.phone)
            .bind(self.password_hash)
            .bind(self.email_confirmed)
            .bind(self.phone_confirmed)
            .bind(Json(self.app_metadata))
            .bind(Json(self.user_metadata))
            .bind(self.ban)
            .bind(Json(self.identity_data))
            .execute(connection)
            .await
            .map_err(|error| taken(error, "Database error saving new user"))?;
        Ok(())
    }
}

/// What changes about a user; what is not given stays.
#[derive(Default)]
pub struct Change {
    pub role: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub password_hash: Option<String>,
    /// Whether the address counts as proven from now on.
    pub confirm_email: bool,
    /// The same for the phone number.
    pub confirm_phone: bool,
    /// Merged at the top level; a null removes its key.
    pub app_metadata: Option<Object>,
    /// Merged at the top level; a null removes its key.
    pub user_metadata: Option<Object>,
    /// Seconds from now; 0 lifts a ban.
    pub ban: Option<f64>,
}

impl Change {
    /// Changes the user; false if there is none with this id.
    ///
    /// # Errors
    /// When an address is taken, or the database fails.
    pub async fn apply(self, connection: &mut PgConnection, id: Uuid) -> Result<bool> {
        let done = sqlx::query(include_str!("../../../sql/gateway/auth_update_user.sql"))
            .bind(id)
            .bind(self.role)
            .bind(self.email)
            .bind(self.phone)
            .bind(self.password_hash)
            .bind(self.confirm_email)
            .bind(self.confirm_phone)
            .bind(self.app_metadata.map(Json))
            .bind(self.user_metadata.map(Json))
            .bind(self.ban)
            .execute(connection)
            .await
            .map_err(|error| taken(error, "Error updating user"))?;
        Ok(done.rows_affected() > 0)
    }
}

/// Names the address that a constraint refused.
fn taken(error: sqlx::Error, doing: &'static str) -> Error {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_partial_key") => Error::EmailExists,
        Some("users_phone_key") => Error::PhoneExists,
        Some("users_pkey") => Error::Unprocessable("A user with this ID already exists".into()),
        _ => Error::database(doing)(error),
    }
}
