"""The demo pair: a very small LLaVA, trained from scratch on rendered pictures."""
