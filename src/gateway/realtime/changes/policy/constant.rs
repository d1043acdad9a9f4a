//! Constants of type `text` and `text[]`, as a little-endian server keeps them in memory. Anything else is `None`.

const TEXT: u32 = 25;

/// A text.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let (text, rest) = element(bytes)?;
    rest.is_empty().then_some(text)
}

/// The texts of an array of one dimension, without nulls.
pub fn texts(bytes: &[u8]) -> Option<Vec<String>> {
    let (length, rest) = number(bytes)?;
    if length != u32::try_from(bytes.len()).ok()? << 2 {
        return None;
    }
    let (dimensions, rest) = number(rest)?;
    let (nulls, rest) = number(rest)?;
    let (of, rest) = number(rest)?;
    let (count, rest) = number(rest)?;
    let (_first, mut rest) = number(rest)?;
    if (dimensions, nulls, of) != (1, 0, TEXT) {
        return None;
    }
    let mut texts = Vec::new();
    for _ in 0..count {
        let (text, after) = element(rest)?;
        // Each begins at a multiple of four; the last may be followed by what fills it up.
        let padding = after.len() % 4;
        rest = after.get(padding..)?;
        texts.push(text.to_owned());
    }
    rest.is_empty().then_some(texts)
}

fn element(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (header, _) = number(bytes)?;
    // The two low bits are zero where the length is written in four bytes, uncompressed.
    let (0, length) = (header & 3, (header >> 2) as usize) else {
        return None;
    };
    let text = std::str::from_utf8(bytes.get(4..length)?).ok()?;
    Some((text, &bytes[length..]))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        assert_eq!(text(&[28, 0, 0, 0, b's', b'u', b'b']), Some("sub"));
        assert_eq!(text(&[16, 0, 0, 0]), Some(""));
        for wrong in [
            &[][..],
            &[28, 0, 0],
            &[28, 0, 0, 0, b's'],
            &[9, b's'],
            &[16, 0, 0, 0, 0],
            &[20, 0, 0, 0, 0xff],
        ] {
            assert_eq!(text(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn lists_of_texts_are_read() {
        // '{app_metadata,tenant_id}'
        let mut bytes = vec![
            224, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0,
        ];
        bytes.extend(b"app_metadata");
        bytes.extend([52, 0, 0, 0]);
        bytes.extend(b"tenant_id\0\0\0");
        assert_eq!(
            texts(&bytes),
            Some(vec!["app_metadata".to_owned(), "tenant_id".to_owned()])
        );
        for length in 0..bytes.len() {
            assert_eq!(texts(&bytes[..length]), None, "{length}");
        }
        bytes[12] = 20;
        assert_eq!(texts(&bytes), None, "not of texts");
    }
}
