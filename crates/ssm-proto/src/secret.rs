//! Values that must not be seen.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A value that does not print and is wiped from memory when dropped.
pub struct Secret<T: Zeroize>(T);

/// A session token: it opens the data channel once, for whoever holds it.
pub type Token = Secret<String>;

impl<T: Zeroize> Secret<T> {
    /// Takes charge of `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that has to send it.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value, for the one place that has to fill it in.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is made of secrets can be asked for this in place of being looked into.
impl<T: Zeroize> ZeroizeOnDrop for Secret<T> {}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Watched(Rc<Cell<u32>>);

    impl Zeroize for Watched {
        fn zeroize(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_dropped_value_is_wiped() {
        let wiped = Rc::new(Cell::new(0));
        drop(Secret::new(Watched(Rc::clone(&wiped))));
        assert_eq!(wiped.get(), 1);
    }

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Token::new("AAEAAZ".into())), "Secret(..)");
    }
}
