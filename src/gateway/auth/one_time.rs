//! One-time codes: what a link or a mail carries to prove an address. Only a hash is kept.

use sha2::{Digest, Sha224};
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::{Error, Result};

/// What a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To prove the address of a sign-up.
    Signup,
    /// To accept an invitation.
    Invite,
    /// To sign in and choose another password.
    Recovery,
    /// To sign in.
    Magiclink,
}

impl Purpose {
    /// By its name on the wire.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "signup" => Some(Self::Signup),
            "invite" => Some(Self::Invite),
            "recovery" => Some(Self::Recovery),
            "magiclink" => Some(Self::Magiclink),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signup => "signup",
            Self::Invite => "invite",
            Self::Recovery => "recovery",
            Self::Magiclink => "magiclink",
        }
    }

    /// The kind under which the database keeps it.
    fn kind(self) -> &'static str {
        match self {
            Self::Signup | Self::Invite => "confirmation_token",
            Self::Recovery | Self::Magiclink => "recovery_token",
        }
    }
}

/// A code somebody was given.
pub struct Code {
    /// What a person types.
    pub digits: String,
    /// What a link carries.
    pub hash: String,
}

impl Code {
    /// A new code for an address. Ten digits, the most there are: nothing here slows down who guesses.
    pub fn of(email: &str) -> Self {
        let digits = format!("{:010}", rand::random_range(0..10_000_000_000_u64));
        let hash = hash(email, &digits);
        Self { digits, hash }
    }

    /// Keeps the code's hash for a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issue(&self, connection: &mut PgConnection, user: Uuid, purpose: Purpose) -> Result<()> {
        sqlx::query(include_str!("../../../sql/gateway/auth_issue_code.sql"))
            .bind(user)
            .bind(purpose.kind())
            .bind(&self.hash)
            .bind(purpose == Purpose::Invite)
            .execute(connection)
            .await
            .map_err(Error::database("Database error updating user"))?;
        Ok(())
    }
}

/// The hash of what a person typed, who says the address is his.
pub fn hash(email: &str, digits: &str) -> String {
    let hash = Sha224::digest(format!("{}{digits}", email.to_ascii_lowercase()));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`redeem`] found.
#[derive(Debug)]
pub struct Redeemed {
    /// Whose code it was; his address is proven.
    pub user: Uuid,
    /// Whether he is banned now.
    pub banned: bool,
}

/// Spends the code of this hash, if there is one for any of these purposes and it is no older than `lifetime` seconds.
///
/// # Errors
/// When the database fails.
pub async fn redeem(
    connection: &mut PgConnection,
    hash: &str,
    purposes: &[Purpose],
    lifetime: u32,
) -> Result<Option<Redeemed>> {
    let kinds: Vec<&str> = purposes.iter().map(|purpose| purpose.kind()).collect();
    let found: Option<(Uuid, bool)> = sqlx::query_as(include_str!("../../../sql/gateway/auth_redeem_code.sql"))
        .bind(hash)
        .bind(kinds)
        .bind(f64::from(lifetime))
        .fetch_optional(connection)
        .await
        .map_err(Error::database("Database error verifying user"))?;
    Ok(found.map(|(user, banned)| Redeemed { user, banned }))
}
