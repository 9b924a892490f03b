import { testInvariants } from './run.ts'

testInvariants()
