//! Terminal sessions over Session Manager: raw mode, window size, input and output.
