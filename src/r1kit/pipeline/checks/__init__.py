"""What `r1 doctor` looks at, one module for each noun: problems, data, prompts."""
