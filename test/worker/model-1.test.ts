import { testAgainstReference } from './model/run.ts'

testAgainstReference(1, 2)
