"""Language models that judge: what they are asked, over which connection, and the replies that are kept."""
