//! Tells a database that cannot answer now, which is waited for, from one that refuses a statement, which concerns
//! those alone who need that statement.

use crate::db::session::Failure;

/// What Postgres said against the statement.
///
/// # Errors
/// The failure itself where it says nothing of the statement.
pub fn of_failure(failure: Failure) -> Result<String, Failure> {
    match failure.refusal() {
        Some(refusal) if is_lasting(&refusal.code) => Ok(refusal.to_string()),
        _ => Err(failure),
    }
}

/// What Postgres said against the statement.
///
/// # Errors
/// The error itself where it says nothing of the statement.
pub fn of_error(error: sqlx::Error) -> sqlx::Result<String> {
    match &error {
        sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| is_lasting(&code)) => {
            Ok(refusal.message().to_owned())
        }
        // The answer is none we can read, and would be none the next time.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// Whether a failure is Postgres' word against the statement.
pub fn speaks_of_the_statement(failure: &Failure) -> bool {
    failure.refusal().is_some_and(|refusal| is_lasting(&refusal.code))
}

/// Whether an error of this SQLSTATE comes of the statement, and would come again. The others pass: connections and
/// logins (08, 28), deadlocks (40), no memory or connection left (53), a server that stops or starts (57P), its disk
/// (58).
fn is_lasting(code: &str) -> bool {
    !["08", "28", "40", "53", "57P", "58"]
        .iter()
        .any(|passing| code.starts_with(passing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_answer_is_waited_for() {
        // too_many_connections, admin_shutdown, cannot_connect_now, out_of_memory, deadlock_detected, invalid_password
        for code in ["53300", "57P01", "57P03", "53200", "40P01", "08006", "28P01"] {
            assert!(!is_lasting(code), "{code}");
        }
        // insufficient_privilege, undefined_table, internal_error, query_canceled, invalid_text_representation
        for code in ["42501", "42P01", "XX000", "57014", "22P02", "P0001"] {
            assert!(is_lasting(code), "{code}");
        }
    }

    #[test]
    fn a_pool_without_a_connection_is_not_a_refusal() {
        assert!(of_error(sqlx::Error::PoolTimedOut).is_err());
        assert!(of_error(sqlx::Error::Decode("x".into())).is_ok());
    }
}
