//! What a user wrote for a target, read as an instance, a tag, an address or a name.
