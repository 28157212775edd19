"""The target model up to its first decoder layer; the only room with torch and transformers."""
