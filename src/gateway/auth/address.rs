//! E-mail addresses and phone numbers: which are accepted, and how they are kept.

use super::error::{Error, Result};

/// An e-mail address as it is kept, lower case.
///
/// # Errors
/// When it is longer than 255 characters or not of the form `local@domain`.
pub fn email(text: &str) -> Result<String> {
    if text.len() > 255 {
        return Err(Error::validation("An email address is too long"));
    }
    let valid = text.rsplit_once('@').is_some_and(|(local, domain)| {
        let local_part = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
        !local.is_empty() && local.bytes().all(local_part) && domain.split('.').all(is_label)
    });
    if valid {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Error::validation("Unable to validate email address: invalid format"))
    }
}

/// A phone number as it is kept: E.164 without the plus.
///
/// # Errors
/// When it is not 2 to 15 digits of which the first is no zero.
pub fn phone(text: &str) -> Result<String> {
    let digits = text.trim_start_matches('+').replace(' ', "");
    if (2..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
    {
        Ok(digits)
    } else {
        Err(Error::validation("Invalid phone number format (E.164 required)"))
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_address_is_kept_in_lower_case() {
        assert_eq!(
            email("Ann.O'Neil+chat@Example.CO").unwrap(),
            "ann.o'neil+chat@example.co"
        );
        assert_eq!(email("a@localhost").unwrap(), "a@localhost");
    }

    #[test]
    fn what_is_no_email_address_is_refused() {
        for text in [
            "", "a", "@b.c", "a@", "a@b..c", "a@-b.c", "a b@c.d", "a@b@c.d", "ä@b.c", "a\0@b.c",
        ] {
            assert!(email(text).is_err(), "{text:?}");
        }
        assert!(email(&format!("{}@b.c", "a".repeat(252))).is_err());
    }

    #[test]
    fn a_phone_number_is_kept_as_digits() {
        assert_eq!(phone("+49 151 1234567").unwrap(), "491511234567");
        for text in ["", "1", "0123456", "+12a4", "1234567890123456"] {
            assert!(phone(text).is_err(), "{text:?}");
        }
    }
}
